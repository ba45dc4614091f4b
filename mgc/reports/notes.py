"""What the figures say and do not say, in plain words, as far as the figures themselves tell."""

from __future__ import annotations

from mgc.evaluation.evaluate import Evaluation
from mgc.evaluation.genre_metrics import GenreEvaluation
from mgc.evaluation.tag_metrics import TagEvaluation

FEW_TRACKS = 200
FEW_POSITIVES = 10


def list_caveats(evaluation: Evaluation, *, own_catalogue: bool = True) -> list[str]:
    """Return the notes that a reader of these figures needs, the weightiest first.

    Parameters
    ----------
    own_catalogue
        Whether the splits are those that the model was trained by.
    """
    notes = _about_split(evaluation) if own_catalogue else []
    if evaluation.genre:
        notes += _about_genre(evaluation, evaluation.genre)
    if evaluation.tag:
        notes += _about_tags(evaluation.tag)
    return [*notes, *_about_intervals(evaluation)]


def _about_split(evaluation: Evaluation) -> list[str]:
    if evaluation.split == "all":
        return [
            "Among these tracks are those the model was trained on, and those that told it when to stop. The figures "
            "flatter: evaluate on split valid or test."
        ]
    if evaluation.split == "train":
        return [
            "These are the tracks the model was trained on. The figures say how well it remembers them, not how "
            "well it knows music: evaluate on split valid or test."
        ]
    if evaluation.split == "valid":
        return [
            "The validation split told training when to stop and how to calibrate the probabilities, so its "
            "figures flatter a little. A test split that nothing was chosen by would be cleaner."
        ]
    return []


def _about_genre(evaluation: Evaluation, genre: GenreEvaluation) -> list[str]:
    notes = []
    if evaluation.failed_by_code:
        notes.append(
            f"{_tracks(sum(evaluation.failed_by_code.values()))} gave no answer and are in no figure but one: "
            "“failures counted as wrong”, where a track whose genre is known and that has no right answer is wrong."
        )
    if evaluation.outside_genres:
        notes.append(
            f"{_tracks(evaluation.outside_tracks)} of genres the model never learned "
            f"({', '.join(evaluation.outside_genres)}) count as wrong in “failures counted as wrong”, and in no "
            "other figure."
        )
    notes += _about_size(genre)
    empty = [one.genre for one in genre.classes if not one.support]
    if empty:
        notes.append(
            f"No track of {', '.join(empty)} is in this split: nothing is known of how well it is recognised, and "
            "it is not in the macro F1."
        )
    floor, ece = genre.calibration.ece_if_perfect, genre.calibration.ece.value
    if floor is not None and ece is not None:
        verdict = "hardly more than that" if ece < 1.5 * floor else "clearly more than that"
        notes.append(
            f"Calibration error is biased upwards: with {_tracks(genre.tracks)} a perfectly honest model would show "
            f"{floor:.3f} by luck alone. What was found, {ece:.3f}, is {verdict}."
        )
    return notes


def _about_size(genre: GenreEvaluation) -> list[str]:
    notes = []
    low, high = genre.accuracy.low, genre.accuracy.high
    if low is not None and high is not None and low == high:
        notes.append(
            "The interval of the accuracy, and of what follows from it, has no width because resampling never met "
            + ("a mistake" if genre.accuracy.value else "a right answer")
            + f". That does not make it certain: by the rule of three, {_tracks(genre.tracks)} without one leave "
            f"room for a rate of up to {min(1.0, 3 / genre.tracks):.1%}."
        )
    elif low is not None and high is not None and genre.tracks < FEW_TRACKS:
        notes.append(
            f"{_tracks(genre.tracks)} pin the accuracy down to no better than {50 * (high - low):.0f} points either "
            "way. Differences smaller than that are not to be believed, those between single genres still less."
        )
    return notes


def _about_tags(tag: TagEvaluation) -> list[str]:
    notes = [
        "PR-AUC depends on how common a tag is: compare it with the tag's own base rate, not with another tag or "
        "another catalogue. ROC-AUC does not (0.5 is chance), but looks good easily where a tag is rare. With few "
        "examples PR-AUC comes out too high; the interval of its mean is corrected for that and so leans downwards."
    ]
    rare = [one.tag for one in tag.tags if max(1, tag.min_positives) <= one.positives < FEW_POSITIVES]
    if rare:
        notes.append(
            f"{_counted(len(rare), 'tag')} with fewer than {FEW_POSITIVES} examples here: their figures, and the "
            "share they have in the means, rest on very little."
        )
    rarer = sum(one.roc_auc.value is not None and one.positives < tag.min_positives for one in tag.tags)
    if rarer:
        notes.append(
            f"The means are over tags that {tag.min_positives} tracks or more have here; rarer ones, "
            f"{rarer} of {len(tag.tags)}, are in the table alone."
        )
    left_out = len(tag.tags) - tag.tags_in_mean - rarer
    if left_out:
        notes.append(
            f"{_counted(left_out, 'tag')} that no track here has, or every one: no figure can be given, and they "
            "are not in the means."
        )
    return notes


def _about_intervals(evaluation: Evaluation) -> list[str]:
    percent = f"{100 * evaluation.confidence:g} %"
    notes = [
        f"Intervals are {percent} bootstrap intervals from {evaluation.bootstrap_samples:,} resamples of "
        f"{evaluation.resample}s. They cover the luck of which {evaluation.resample}s are in this split. They do not "
        "cover wrong labels, another training run, or music unlike this catalogue's."
    ]
    if evaluation.resample == "track" and evaluation.groups < evaluation.tracks:
        notes.append(
            f"The {_tracks(evaluation.tracks)} come from {_counted(evaluation.groups, 'group')} (artists, works), "
            "and tracks of one group resemble each other: true intervals are wider. Resample by group to see."
        )
    return notes


def _tracks(number: int) -> str:
    return _counted(number, "track")


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
