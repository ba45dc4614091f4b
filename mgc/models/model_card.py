"""The model card of a bundle (Mitchell et al., "Model Cards for Model Reporting", 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

USE = """\
Suggests a genre, tags and an embedding for tracks of a music catalogue, to sort, search and check it. It
knows nothing beyond its training data: a genre outside the list below is given one inside it, with a
probability that is only as honest as new music is like the validation tracks. Not for decisions about people.
"""

FOLDS_NOTE = """\
Each track was predicted by members that learnt from none of its group, joined and calibrated by other tracks; a
member's own figures are at a temperature fitted on all of them. The bundle itself learnt from all of these tracks.
"""

FIGURES_NOTE = """\
The temperatures, and early stopping if there was any, looked at the validation split, so these figures flatter;
`mgc evaluate` on a split that nothing looked at gives honest ones, with intervals.
"""


def model_card(description: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    description
        The content of `bundle.json`.
    """
    parts = [
        f"# mgc model bundle {description['fingerprint']}",
        f"Written by mgc {description['mgc_version']} at {description['created_at']}.",
        "## Use",
        USE.strip(),
        "## Input features",
        _features(description["features"], description["feature_fingerprint"]),
        "## What it answers",
        _vocabulary(description["taxonomy"]),
        "## Networks",
        _networks(description) + _distilled_from(description["facts"]) + _built_on(description["facts"]),
        "## How they decide",
        _decision(description["decision"], description["taxonomy"]["tags"], description["metrics"]),
        f"## Figures on {figures_place(description['metrics'])}",
        _figures(description["metrics"]) + _curves(description["facts"]),
        "## Training data",
        _facts(description["facts"]),
        "## Files",
        "`manifest.json` lists every file with its sha256; `mgc` refuses the bundle where one differs. Weights are\n"
        "safetensors, an imported network is an ONNX graph of standard operators: nothing here can execute.",
    ]
    return "\n\n".join(parts) + "\n"


def _features(features: Mapping[str, Any], fingerprint: str) -> str:
    source = "" if features["source"] == "audio" else f"\nNot computed from audio: {features['source']}."
    stride = "" if features["frame_stride"] == 1 else f", of which one in {features['frame_stride']:g} is kept"
    if features.get("content") == "waveform":
        return (
            f"Sound, at most {features['max_windows']} windows of {features['window_seconds']:g} s a track, evenly "
            f"placed, at {features['sample_rate']} Hz. Feature fingerprint `{fingerprint}`."
        )
    zero = "full scale" if features.get("reference") == "full_scale" else "the track's maximum"
    return (
        f"Log-mel spectrograms of at most {features['max_windows']} "
        f"{'window' if features['max_windows'] == 1 else 'windows'} of {features['window_seconds']:g} s a "
        f"track, evenly placed:\n{features['n_mels']} mel bins ({features['mel_scale']}) at "
        f"{features['sample_rate']} Hz, frames of {features['n_fft']} samples every "
        f"{features['hop_length']}{stride},\n"
        f"{features['top_db']:g} dB below {zero}. Feature fingerprint `{fingerprint}`.{source}"
    )


def _vocabulary(taxonomy: Mapping[str, list[str]]) -> str:
    lines = [
        f"- {len(taxonomy[kind])} {kind}: {', '.join(taxonomy[kind])}" if taxonomy[kind] else f"- no {kind}"
        for kind in ("genres", "tags")
    ]
    return "\n".join(lines)


def _networks(description: Mapping[str, Any]) -> str:
    members = description["members"]
    if "published" in description["facts"]:
        return "\n".join(f"- member {number}: {_network(member['model'])}" for number, member in enumerate(members))
    fits = fits_of(members)
    lines = [
        f"- member {number}: {_network(member['model'])}" + (f"; fitted with {settings_text(own)}" if own else "")
        for number, (member, own) in enumerate(zip(members, fits.own, strict=True))
    ]
    alike = f"Fitted with {settings_text(fits.alike)}, seed" if fits.alike else "Seed"
    return "\n".join([*lines, "", f"{alike} {description['training']['seed']}."])


class Fits(NamedTuple):
    """How a bundle's members were fitted: the settings in which they agree, and the others of each."""

    alike: dict[str, Any]
    own: list[dict[str, Any]]


def fits_of(members: Sequence[Mapping[str, Any]]) -> Fits:
    """Return how the members of a `bundle.json` were fitted."""
    fits = [member["training"] for member in members]
    alike = {key: value for key, value in fits[0].items() if all(fit.get(key) == value for fit in fits)}
    return Fits(alike, [{key: value for key, value in fit.items() if key not in alike} for fit in fits])


def settings_text(values: Mapping[str, Any]) -> str:
    """Return settings as a reader has them: `epochs 80, weight_decay 0.1`."""
    return ", ".join(f"{key} {_setting(value)}" for key, value in values.items())


def _setting(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _distilled_from(facts: Mapping[str, Any]) -> str:
    if "teacher" not in facts:
        return ""
    share = facts["teacher_share"]
    labels = "no label" if share == 1.0 else f"labels weigh {1.0 - share:.0%}"
    return f"\n\nIt learnt the predictions of the bundle `{facts['teacher']}` for the training tracks; {labels}."


def _built_on(facts: Mapping[str, Any]) -> str:
    lines = [
        f"- `{network['network']}`, from bundle `{network['bundle']}`"
        + (f", file `{network['published']}`, SHA-256 `{network['sha256']}`" if "sha256" in network else "")
        + (f", licence {network['licence']}" if "licence" in network else "")
        for network in facts.get("published_weights", [])
    ]
    return "\n\nFrozen networks in it, whose weights others published:\n\n" + "\n".join(lines) if lines else ""


def _network(model: Mapping[str, Any]) -> str:
    settings = {key: value for key, value in model.items() if key not in ("name", "published")}
    return f"`{model['name']}`, {settings_text(settings)}"


FUSIONS = {
    "mean": "The members' calibrated probabilities are averaged.",
    "vote": "The members vote; where votes are equal their mean probability decides.",
    "weighted": "A weighted mean of the members' calibrated probabilities, fitted on {place}.",
    "stacked": "A weighted sum of the members' logits with a bias a label, fitted on {place}.",
}


def _decision(decision: Mapping[str, Any], tags: Sequence[str], metrics: Mapping[str, Any]) -> str:
    thresholds = {
        True: "A tag is listed from its own probability on.",
        False: "A tag is listed from a probability of 0.5 on.",
    }
    fusion = FUSIONS[decision["fusion"]["method"]].format(place=figures_place(metrics))
    lines = [fusion, thresholds[bool(decision["tag_thresholds"])]]
    if exclusive := decision.get("exclusive_tags"):
        groups = "; ".join(", ".join(tags[place] for place in group) for group in exclusive)
        lines.append(f"At most one is listed of: {groups}.")
    if decision["abstain_below"]:
        lines.append(f"A genre less probable than {decision['abstain_below']:.3f} is marked `abstained`.")
    return "\n".join([*lines, *promise_lines(metrics)])


def promise_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return what a bundle promises of its genres and tags, and on what, in sentences; none of a bundle without."""
    promises = metrics.get("promise", {})
    named = [(what, promises[key]) for key, what in (("genre", "genres"), ("tags", "tags")) if promises.get(key)]
    lines = [f"{_promised(what, one)} {_seen(what, one)}" for what, one in named]
    return [*lines, f"Promised on {promises['on']}."] if lines else []


def _promised(what: str, promise: Mapping[str, Any]) -> str:
    target, precision = promise["target"], promise["precision"]
    if precision is None:
        head = f"Nothing can be promised of its {what}: {target:.0%} right was wanted."
    else:
        head = f"{precision:.0%} of the {what} it states are right on artists never met, so it promises."
        head += "" if precision == target else f" {target:.0%} was wanted."
    if precision == target or what == "tags":
        return head
    needed = promise["needed"]
    return f"{head} " + (
        f"{target:.0%} would need about {needed:,} tracks."
        if needed
        else f"More tracks like these would not do for {target:.0%}."
    )


def _seen(what: str, promise: Mapping[str, Any]) -> str:
    on = f"{promise['tracks']:,} tracks of {promise['groups']:,} groups"
    if promise["accuracy"] is None:
        return f"Seen: {on}."
    answered = f"{promise['coverage']:.0%} of " + (
        "those that tracks have are listed" if what == "tags" else "them answered"
    )
    return (
        f"Seen on {on}: {promise['accuracy']:.1%} right, {answered}; lower bound {promise['bound']:.1%} "
        f"at {promise['confidence']:.0%} confidence."
    )


def _figures(metrics: Mapping[str, Any]) -> str:
    ensemble: dict[str, float | None] = metrics.get("ensemble", {})
    if not ensemble:
        return "None: there was no labelled validation split."
    members: list[dict[str, float | None]] = metrics.get("members", [])
    columns = {f"member {number}": member for number, member in enumerate(members)}
    if "teacher" in metrics:
        columns = {"its teacher": metrics["teacher"]}
    heads = ["figure", "ensemble", *columns]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name, value in ensemble.items():
        cells = (value, *(column.get(name) for column in columns.values()))
        lines.append(_row([name.replace("_", " "), *(_number(cell) for cell in cells)]))
    behind = "\n\n".join(filter(None, (published_line(metrics), behind_its_best_member(metrics))))
    note = FOLDS_NOTE if "on" in metrics else FIGURES_NOTE
    return "\n".join(lines) + "\n\n" + (f"{behind}\n\n" if behind else "") + note.strip()


def figures_place(metrics: Mapping[str, Any]) -> str:
    """Return which tracks a bundle's own figures are of, in a few words."""
    return str(metrics.get("on", "the validation split"))


def learnt_splits(facts: Mapping[str, Any]) -> list[str]:
    """Return the splits that a bundle's members learnt from."""
    return list(facts.get("learnt_splits", ["train"]))


def published_line(metrics: Mapping[str, Any]) -> str:
    """Return in a sentence what members on published weights bring; empty where there are none beside others."""
    without = metrics.get("without_published")
    if not without:
        return ""
    whole = metrics["fusion"][without["method"]]
    parts = [
        f"{name.replace('_', ' ')} {whole[key]:.3f} with them, {without[key]:.3f} without"
        for key, name in (("genre_accuracy", "genre accuracy"), ("tag_macro_average_precision", "tag PR-AUC"))
        if whole.get(key) is not None and without.get(key) is not None
    ]
    return f"What members on published weights bring, joined by weights of other groups: {'; '.join(parts)}."


def behind_its_best_member(metrics: Mapping[str, Any]) -> str:
    """Return in a sentence that a member alone does better than the ensemble; empty where none does."""
    ensemble, members = metrics.get("ensemble", {}), metrics.get("members", [])
    found = []
    for name in ("genre_accuracy", "tag_macro_average_precision"):
        own, alone = ensemble.get(name), [member.get(name) for member in members]
        if own is None or len(alone) < 2 or None in alone or max(alone) <= own:
            continue
        best = alone.index(max(alone))
        found.append(f"{name.replace('_', ' ')} {alone[best]:.3f} of member {best} alone, {own:.3f} of the ensemble")
    if not found:
        return ""
    return f"The ensemble is behind its best member here: {'; '.join(found)}. The best of several is partly luck."


def _curves(facts: Mapping[str, Any]) -> str:
    if not any(facts.get("histories", [])):
        return ""
    return (
        "\n\n`training.html` beside this file draws loss, accuracy and RMSE over the epochs of each member "
        "(`training.png`;\nas numbers: `training.json`)."
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _facts(facts: Mapping[str, Any]) -> str:
    """Return the facts that are short enough to read; `bundle.json` has the rest."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {count}" for key, count in value.items())
        if isinstance(value, str | int | float):
            lines.append(f"- {name.replace('_', ' ')}: {value}")
    return "\n".join(lines) or "Not recorded."
