"""What the literature reports, each figure with the protocol it comes from, as the papers state it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    head
        The classifier on the network's embeddings that it is of, if it is.
    """

    paper: str
    system: str
    accuracy: float
    figure: str
    protocol: str
    head: Literal["svm", "knn"] | None = None


_HE_LI = "GTZAN; how tracks were parted is not said"
_GUO = "ten-fold cross-validation over clips; the data set is not named"
_JAIN = "GTZAN, 13 MFCC of ten segments a clip, parted 30 / 70; that a clip's segments stay together is not said"

CLAIMS = {
    "he_li_cnn": Claim("He & Li 2024", "CNN", 0.8427, "accuracy, §4.1", _HE_LI),
    "he_li_cnn_svm": Claim("He & Li 2024", "CNN + SVM", 0.8721, "accuracy, §4.1", _HE_LI, "svm"),
    "cao_cnn": Claim(
        "Cao 2024",
        "CNN on 599 × 128 mel",
        0.79,
        "average recall, figure 5 (F1 0.78)",
        "GTZAN, testing set of 20 %; how it was drawn is not said",
    ),
    "guo_cnn": Claim("Guo 2024", "CNN", 0.92, "accuracy, table 2", _GUO),
    "guo_rnn": Claim("Guo 2024", "RNN", 0.75, "accuracy, table 2", _GUO),
    "guo_hybrid": Claim("Guo 2024", "CNN + RNN", 0.85, "accuracy, table 2", _GUO),
    "jain_mlp": Claim("Jain et al. 2021", "MLP", 0.6024, "test accuracy, table 2 (RMSE 3.31)", _JAIN),
    "jain_lstm": Claim("Jain et al. 2021", "RNN-LSTM", 0.6795, "test accuracy, table 2 (RMSE 1.12)", _JAIN),
    "jain_cnn": Claim("Jain et al. 2021", "CNN", 0.7443, "test accuracy, table 2 (RMSE 0.88)", _JAIN),
    "zhang_cnn": Claim(
        "Zhang",
        "log-mel CNN",
        0.90,
        "“around 90 accuracy”, §V; mean recall of table I 0.91",
        "“typically” 80-10-10 or 70-15-15; how it was drawn is not said",
    ),
}
"""By the id that `claims` of a system names."""
