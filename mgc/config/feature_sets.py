"""The names of the features, and the sets of them that papers and tables use; `docs/features.md` defines each."""

from __future__ import annotations

from mgc.errors import did_you_mean

FRAME_FEATURES = (
    "log_mel",
    "mfcc",
    "mfcc_delta",
    "mfcc_delta2",
    "chroma",
    "spectral_centroid",
    "spectral_bandwidth",
    "spectral_rolloff",
    "spectral_flatness",
    "spectral_contrast",
    "spectral_mean",
    "spectral_variance",
    "zero_crossing_rate",
    "zero_crossing_rate_he_li",
    "rms",
    "short_time_energy",
    "autocorrelation",
    "onset_strength",
    "tempogram",
)
"""Features with values for every frame, in the order in which they are kept."""

TRACK_FEATURES = ("tempo",)
"""Features with one value a track: statistics already."""

FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "cao2024": ("mfcc", "chroma", "spectral_centroid", "spectral_rolloff", "zero_crossing_rate"),
    "guo2024": (
        "log_mel",
        "mfcc",
        "spectral_centroid",
        "spectral_mean",
        "spectral_variance",
        "zero_crossing_rate",
        "short_time_energy",
        "autocorrelation",
        "onset_strength",
        "tempogram",
        "tempo",
    ),
    "jain2021": ("mfcc",),
    "he_li2024": ("log_mel", "zero_crossing_rate_he_li", "short_time_energy"),
    "gtzan_csv": (
        "mfcc",
        "chroma",
        "spectral_centroid",
        "spectral_bandwidth",
        "spectral_rolloff",
        "zero_crossing_rate",
        "rms",
        "tempo",
    ),
    "librosa_ten": (
        "log_mel",
        "mfcc",
        "chroma",
        "spectral_centroid",
        "spectral_bandwidth",
        "spectral_rolloff",
        "spectral_flatness",
        "spectral_contrast",
        "zero_crossing_rate",
        "rms",
    ),
    "all": FRAME_FEATURES + TRACK_FEATURES,
}
"""Set → its features. Where only per-frame features are asked for, a set's `TRACK_FEATURES` are left out."""


def expand(names: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the features that names and sets stand for, each once, in the order of `allowed`.

    Raises
    ------
    ValueError
        A name is neither a set nor among `allowed`; names the nearest.
    """
    wanted: set[str] = set()
    for name in names:
        if name in FEATURE_SETS:
            wanted |= set(FEATURE_SETS[name])
        elif name in allowed:
            wanted.add(name)
        elif name in TRACK_FEATURES:
            raise ValueError(f"'{name}' has no value for each frame: ask for it in features.statistics")
        else:
            raise ValueError(f"no feature or set '{name}': {did_you_mean(name, [*allowed, *FEATURE_SETS])}")
    return tuple(name for name in allowed if name in wanted)
