"""What the arrays of published mel-spectrogram distributions hold, as settings for `mgc import-mels`."""

from __future__ import annotations

from dataclasses import dataclass

from mgc.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class MelFormat:
    """A distribution's arrays.

    Parameters
    ----------
    about
        Where it is described, and how that was checked.
    settings
        `section.key=value`, as after `--set`.
    """

    about: str
    settings: tuple[str, ...]


MEL_FORMATS = {
    "gtzan-melspecs": MelFormat(
        "librosa mel (2048 / 512 at 22,050 Hz, 128 bands, dB relative to the clip's maximum) thinned to 387 columns "
        "by nearest-neighbour resizing: column k is frame floor(1.666 + 3.33678 k). That map was fitted to 47 clips "
        "whose audio is known; there mgc's own audio path gives the same values within 0.32 dB, which is the "
        "8-bit quantisation of the arrays.",
        (
            "features.sample_rate=22050",
            "features.n_fft=2048",
            "features.hop_length=512",
            "features.n_mels=128",
            "features.f_min=0.0",
            "features.f_max=none",
            "features.mel_scale=slaney",
            "features.top_db=80.0",
            "features.frame_stride=3.33678",
            "features.frame_phase=1.666",
            "features.window_seconds=30.0",
            "features.max_windows=1",
            "mels.layout=mels_first",
            "mels.unit_db=1.0",
            "mels.reference=as_is",
            "mels.like_audio=true",
        ),
    ),
    "mtg-jamendo": MelFormat(
        "Essentia MelBands (512 / 256 at 12,000 Hz, 96 Slaney bands, unit triangles), float32, shape (96, frames), "
        "written as twice the power's decibels (`scripts/melspectrograms.py` of the data set: lin2db, scale 2). "
        "mgc's audio path resamples and windows otherwise and does not give the same values.",
        (
            "features.sample_rate=12000",
            "features.n_fft=512",
            "features.hop_length=256",
            "features.n_mels=96",
            "features.f_min=0.0",
            "features.f_max=none",
            "features.mel_scale=slaney",
            "features.frame_stride=1.0",
            "features.frame_phase=0.0",
            "mels.layout=mels_first",
            "mels.unit_db=0.5",
            "mels.reference=track_maximum",
            "mels.like_audio=false",
        ),
    ),
}


def mel_format(name: str) -> MelFormat:
    """Return the distribution of a name.

    Raises
    ------
    ConfigError
        It is not known.
    """
    if name not in MEL_FORMATS:
        raise ConfigError(
            f"unknown format of mel spectrograms '{name}': {did_you_mean(name, list(MEL_FORMATS))}",
            "or leave --format out and describe the arrays in [mels] and [features]",
        )
    return MEL_FORMATS[name]
