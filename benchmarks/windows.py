"""How many windows of a track are enough: accuracy against windows read, and how far an answer is from that of all.

    python -m benchmarks.windows CATALOGUE BUNDLE PLOT.png [RECORDING…]

Left: genre accuracy and tag PR-AUC on the catalogue's split `valid`, in windows of the bundle's length and of 4 s,
evenly placed, with 95 % intervals over groups. Right, for whole recordings without labels: mean distance of the
probabilities to those of 24 windows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from sklearn.metrics import average_precision_score

from mgc.audio.decode.audio_reader import open_audio
from mgc.audio.extraction import extract
from mgc.catalogue.index import read_catalogue
from mgc.config import DecodeConfig, FeatureConfig
from mgc.inference.predictor import Predictor, TrackPrediction
from mgc.models.bundle import Bundle, load_bundle
from mgc.storage.store import fetch_track

SHORT_WINDOW_SECONDS = 4.0
COUNTS = (1, 2, 3, 4, 6)
COUNTS_OF_WHOLE_TRACKS = (1, 2, 3, 4, 6, 9, 12)
MANY = 24
SHORTEST_SECONDS = 60.0
"""Of a recording in the right plot: a shorter one is read whole by the six windows that are judged."""

RESAMPLES = 1_000


def main() -> None:
    catalogue_uri, bundle_uri, plot, *recordings = sys.argv[1:]
    torch.set_num_threads(1)
    bundle = load_bundle(bundle_uri)
    valid = read_catalogue(catalogue_uri).filter(pl.col("split") == "valid", pl.col("genre").is_not_null())
    curves = {}
    for seconds in (bundle.features.window_seconds, SHORT_WINDOW_SECONDS):
        points = []
        for count in COUNTS:
            answers = _answers(bundle, valid["uri"], _features(bundle, count, seconds))
            n_windows = float(np.mean([one.windows for one in answers]))
            if points and n_windows <= points[-1][0]:
                break  # the tracks hold no more
            points.append((n_windows, *_accuracy(bundle, answers, valid), *_precision(bundle, answers, valid)))
            values = " ".join(f"{value:.4f}" for value in points[-1][1:])
            print(f"# windows of {seconds:g} s, {n_windows:.2f} a track: {values}")
        curves[seconds] = np.array(points)
    distances = {name: found for name in recordings if (found := _distances(bundle, name))}
    _draw(curves, distances, plot)


def _features(bundle: Bundle, count: int, seconds: float) -> FeatureConfig:
    return bundle.features.model_copy(update={"max_windows": count, "window_seconds": seconds})


def _answers(bundle: Bundle, uris: Iterable[str], features: FeatureConfig) -> list[TrackPrediction]:
    predictor, limits = Predictor(bundle), DecodeConfig()
    log_mels = []
    for uri in uris:
        data = fetch_track(uri, limits)
        if not isinstance(data, bytes):
            raise SystemExit(f"{uri} is too long for this benchmark")
        log_mels.append(extract(data, features, limits).log_mel.astype(np.float16))
    return predictor.predict(log_mels)


def _accuracy(bundle: Bundle, answers: list[TrackPrediction], valid: pl.DataFrame) -> tuple[float, float, float]:
    right = np.array([one.genre == genre for one, genre in zip(answers, valid["genre"], strict=True)], float)
    low, high = _interval(lambda rows: float(right[rows].mean()), valid)
    return float(right.mean()), low, high


def _precision(bundle: Bundle, answers: list[TrackPrediction], valid: pl.DataFrame) -> tuple[float, float, float]:
    probabilities = np.stack([one.tag_probabilities for one in answers])
    true = np.array([[tag in (tags or []) for tag in bundle.taxonomy.tags] for tags in valid["tags"].to_list()])
    known = valid["tags_known"].to_numpy().astype(bool)

    def macro(rows: np.ndarray) -> float:
        rows = rows[known[rows]]
        there = [tag for tag in range(true.shape[1]) if true[rows, tag].any()]
        return float(np.mean([average_precision_score(true[rows, tag], probabilities[rows, tag]) for tag in there]))

    return macro(np.arange(len(answers))), *_interval(macro, valid, RESAMPLES // 5)


def _interval(score: object, valid: pl.DataFrame, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return a 95 % interval by drawing whole groups anew."""
    rng = np.random.default_rng(0)
    groups = valid["group"].fill_null(valid["track_id"]).to_numpy()
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    scores = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(members), len(members))
        scores.append(score(np.concatenate([members[number] for number in drawn])))  # type: ignore[operator]
    return float(np.quantile(scores, 0.025)), float(np.quantile(scores, 0.975))


def _distances(bundle: Bundle, path: str) -> list[float]:
    """Return, for each count, the mean distance of probabilities to those of many windows; nothing if too short."""
    seconds = bundle.features.window_seconds
    with open_audio(Path(path).read_bytes(), DecodeConfig()) as reader:
        if (reader.info.n_frames or 0) < SHORTEST_SECONDS * reader.info.sample_rate:
            return []
    predictions = {
        count: _answers(bundle, [path], _features(bundle, count, seconds))[0]
        for count in (*COUNTS_OF_WHOLE_TRACKS, MANY)
    }
    all_of = {
        count: np.concatenate([one.genre_probabilities, one.tag_probabilities]) for count, one in predictions.items()
    }
    found = [float(np.abs(all_of[count] - all_of[MANY]).mean()) for count in COUNTS_OF_WHOLE_TRACKS]
    print(f"# {Path(path).name[:40]}: " + " ".join(f"{distance:.4f}" for distance in found))
    return found


def _draw(curves: dict[float, np.ndarray], distances: dict[str, list[float]], plot: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for number, (seconds, points) in enumerate(curves.items()):
        for first, name, style in ((1, "genre accuracy", "-o"), (4, "tag PR-AUC, macro", "--s")):
            value, low, high = points[:, first], points[:, first + 1], points[:, first + 2]
            seconds_analysed = (
                points[:, 0] * seconds * (1 + 0.02 * number)
            )  # a little apart, so that the bars are seen
            left.errorbar(
                seconds_analysed,
                value,
                [value - low, high - value],
                fmt=style,
                capsize=3,
                label=f"{name}, {seconds:g} s windows",
            )
    left.set(xlabel="seconds analysed of a track", ylim=(0, 1), title="Labelled tracks, split valid")
    left.legend(fontsize=8)
    for values in distances.values():
        right.plot(COUNTS_OF_WHOLE_TRACKS, values, color="0.75", linewidth=1)
    if distances:
        right.plot(COUNTS_OF_WHOLE_TRACKS, np.mean(list(distances.values()), axis=0), "-o", label="mean")
        right.legend()
    right.set(xlabel="windows of 10 s", ylabel="mean distance of probabilities", ylim=(0, None))
    right.set_title(f"{len(distances)} whole recordings: how far from {MANY} windows")
    figure.savefig(plot, dpi=110)


if __name__ == "__main__":
    main()
