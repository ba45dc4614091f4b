"""What the literature reports, each figure with the protocol it comes from, as the papers state it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GenreClaim = tuple[str, float | None, float | None, float | None]


@dataclass(frozen=True)
class Claim:
    """A figure of a paper.

    Parameters
    ----------
    paper
        Authors and year.
    system
        As the paper calls it.
    accuracy
        In [0, 1].
    figure
        What the paper calls the number, and where it stands.
    protocol
        How tracks were parted, in the paper's words or their lack.
    kind
        Of protocol here that is nearest to it.
    by_genre
        What it reports of each genre: name, precision, recall, F1; None what it does not.
    head
        The classifier on the network's embeddings that it is of, if it is.
    """

    paper: str
    system: str
    accuracy: float
    figure: str
    protocol: str
    kind: Literal["random_tracks", "random_segments", "stratified_k_fold"]
    head: Literal["svm", "knn"] | None = None
    by_genre: tuple[GenreClaim, ...] = ()


def _each(table: str) -> tuple[GenreClaim, ...]:
    """Read rows of a genre and its precision, recall and F1; a row of one figure is of the recall."""
    rows = [line.split() for line in table.strip().splitlines()]
    return tuple(
        (genre, *map(float, figures)) if len(figures) > 1 else (genre, None, float(figures[0]), None)  # type: ignore[misc]
        for genre, *figures in rows
    )


_HE_LI = "GTZAN; how tracks were parted is not said"
_GUO = "ten-fold cross-validation over clips; the data set is not named"
_JAIN = "GTZAN, 13 MFCC of ten segments a clip, parted 30 / 70; that a clip's segments stay together is not said"
_CAO_GENRES = _each("""
blues 0.80 0.75 0.77
classical 0.95 0.95 0.95
country 0.75 0.86 0.80
disco 0.70 0.79 0.74
hiphop 0.84 0.76 0.80
jazz 0.96 0.88 0.92
metal 0.71 0.77 0.74
pop 0.76 0.76 0.76
reggae 0.72 0.81 0.76
rock 0.65 0.50 0.56
""")
_ZHANG_GENRES = _each("""
blues 0.98 0.90 0.90
classical 0.87 1.00 0.90
country 0.90 0.87 0.86
disco 0.92 0.84 0.92
hiphop 0.90 0.94 0.93
jazz 0.89 0.91 0.88
metal 0.94 1.00 0.96
pop 0.82 0.88 0.85
reggae 0.91 0.84 0.89
rock 0.89 0.90 0.90
""")


def _guo(system: str, accuracy: float, genres: str) -> Claim:
    return Claim("Guo 2024", system, accuracy, "accuracy, table 2", _GUO, "stratified_k_fold", by_genre=_each(genres))


def _jain(system: str, accuracy: float, rmse: float) -> Claim:
    figure = f"test accuracy, table 2 (RMSE {rmse:g})"
    return Claim("Jain et al. 2021", system, accuracy, figure, _JAIN, "random_segments")


CLAIMS = {
    "he_li_cnn": Claim("He & Li 2024", "CNN", 0.8427, "accuracy, §4.1 (F1 0.841)", _HE_LI, "random_tracks"),
    "he_li_cnn_svm": Claim(
        "He & Li 2024", "CNN + SVM", 0.8721, "accuracy, §4.1 (F1 0.87)", _HE_LI, "random_tracks", "svm"
    ),
    "cao_cnn": Claim(
        "Cao 2024",
        "CNN on 599 × 128 mel",
        0.79,
        "average recall, figure 5 (F1 0.78)",
        "GTZAN, testing set of 20 %; how it was drawn is not said",
        "random_tracks",
        by_genre=_CAO_GENRES,
    ),
    "guo_cnn": _guo("CNN", 0.92, "rock 0.93\npop 0.91\nclassical 0.85\njazz 0.87"),
    "guo_rnn": _guo("RNN", 0.75, "rock 0.81\npop 0.79\nclassical 0.90\njazz 0.80"),
    "guo_hybrid": _guo("CNN + RNN", 0.85, "rock 0.88\npop 0.83\nclassical 0.84\njazz 0.90"),
    "jain_mlp": _jain("MLP", 0.6024, 3.31),
    "jain_lstm": _jain("RNN-LSTM", 0.6795, 1.12),
    "jain_cnn": _jain("CNN", 0.7443, 0.88),
    "zhang_cnn": Claim(
        "Zhang",
        "log-mel CNN",
        0.90,
        "“around 90 accuracy”, §V; mean recall of table I 0.91",
        "“typically” 80-10-10 or 70-15-15; how it was drawn is not said",
        "random_tracks",
        by_genre=_ZHANG_GENRES,
    ),
}
"""By the id that `claims` of a system names."""
