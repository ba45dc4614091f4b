"""Over random signals and settings every feature is librosa's own call with the same parameters.

Within 1e-3 relative, unless a line below says what single precision or a definition changes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mgc.audio.features.analysis import Analysis
from mgc.audio.features.feature_rows import TEMPO_BAND_EDGES_BPM, autocorrelation_lags, statistics_names
from mgc.config import FeatureConfig
from mgc.config.feature_settings import FRAME_FEATURES

RELATIVE = 1e-3


@st.composite
def all_settings(draw: st.DrawFn) -> FeatureConfig:
    sample_rate = draw(st.sampled_from([16_000, 22_050, 44_100]))
    n_fft = draw(st.sampled_from([512, 1_000, 1_024, 2_048]))
    return FeatureConfig(
        sample_rate=sample_rate,
        n_fft=n_fft,
        hop_length=draw(st.integers(n_fft // 8, n_fft // 2)),
        n_mels=draw(st.integers(20, 128)),
        mel_scale=draw(st.sampled_from(["slaney", "htk"])),
        window_seconds=draw(st.floats(0.5, 1.5)),
        frames=("all",),
        statistics=("all",),
        n_mfcc=draw(st.integers(1, 20)),
        chroma_tuning=draw(st.floats(-0.5, 0.5)),
        rolloff_fraction=draw(st.floats(0.5, 0.95)),
        contrast_bands=draw(st.integers(3, 6)),
        contrast_f_min_hz=draw(st.floats(90.0, 240.0)),
    )


@dataclass(frozen=True)
class Sound:
    """Sines and decaying beats over noise."""

    hz: list[float]
    noise: float
    beats_hz: float
    gain_db: float
    seed: int

    def samples(self, config: FeatureConfig) -> np.ndarray:
        t = np.arange(config.window_samples) / config.sample_rate
        noise = np.random.default_rng(self.seed).standard_normal(t.size)
        signal = self.noise * noise * (1 + 9 * np.exp(-20 * (t * self.beats_hz % 1.0)))
        for hz in self.hz:
            signal += 0.2 * np.sin(2 * np.pi * hz * t)
        return (10 ** (self.gain_db / 20) * signal).astype(np.float32)


sounds = st.builds(
    Sound,
    hz=st.lists(st.floats(30.0, 7_000.0), max_size=3),
    noise=st.floats(0.003, 0.2),
    beats_hz=st.floats(1.0, 6.0),
    gain_db=st.floats(-30.0, 0.0),
    seed=st.integers(0, 2**32 - 1),
)


class ByLibrosa:
    """Every feature of one window, shape (n_frames, rows), in double precision where librosa lets one."""

    def __init__(self, samples: np.ndarray, config: FeatureConfig) -> None:
        self.y, self.config = samples.astype(np.float64), config
        self.stft = {"n_fft": config.n_fft, "hop_length": config.hop_length}
        self.frames = {"frame_length": config.n_fft, "hop_length": config.hop_length}
        self.S = np.abs(librosa.stft(self.y, **self.stft))
        mel = librosa.feature.melspectrogram(
            S=self.S**2, sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels,
            fmax=config.sample_rate / 2, htk=config.mel_scale == "htk",
        )  # fmt: skip
        self.log_mel_db = librosa.power_to_db(mel)

    def feature(self, name: str) -> np.ndarray:
        return np.asarray(getattr(self, name)()).T

    def log_mel(self):
        return self.log_mel_db - self.log_mel_db.max()

    def mfcc(self):
        return librosa.feature.mfcc(S=self.log_mel_db, n_mfcc=self.config.n_mfcc)

    def mfcc_delta(self):
        return librosa.feature.delta(self.mfcc())

    def mfcc_delta2(self):
        return librosa.feature.delta(self.mfcc(), order=2)

    def chroma(self):
        return librosa.feature.chroma_stft(
            S=self.S**2, sr=self.config.sample_rate, n_fft=self.config.n_fft, tuning=self.config.chroma_tuning
        )

    def spectral_centroid(self):
        return librosa.feature.spectral_centroid(S=self.S, sr=self.config.sample_rate)

    def spectral_bandwidth(self):
        return librosa.feature.spectral_bandwidth(S=self.S, sr=self.config.sample_rate)

    def spectral_rolloff(self):
        return librosa.feature.spectral_rolloff(
            S=self.S, sr=self.config.sample_rate, roll_percent=self.config.rolloff_fraction
        )

    def spectral_flatness(self):
        return librosa.feature.spectral_flatness(S=self.S)

    def spectral_contrast(self):
        return self.contrast_of(self.S)

    def contrast_range(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the most contrast of spectra within single precision of these, (n_frames, bands) each.

        A Fourier transform in single precision is off by some 1e-7 of a frame's loudest bin, in every bin: nothing to
        the peaks, all to a valley that is a single bin at -150 dB.
        """
        rounding = 1e-7 * self.S.max(axis=0)
        return self.contrast_of(self.S + rounding).T, self.contrast_of(np.maximum(self.S - rounding, 0.0)).T

    def contrast_of(self, magnitudes: np.ndarray) -> np.ndarray:
        return librosa.feature.spectral_contrast(
            S=magnitudes,
            sr=self.config.sample_rate,
            fmin=self.config.contrast_f_min_hz,
            n_bands=self.config.contrast_bands,
        )

    def spectral_mean(self):
        return self.S.mean(axis=0, keepdims=True)

    def spectral_variance(self):
        return self.S.var(axis=0, keepdims=True)

    def zero_crossing_rate(self):
        return librosa.feature.zero_crossing_rate(self.y, **self.frames)

    def zero_crossing_rate_he_li(self):
        padded = np.pad(self.y, self.config.n_fft // 2, mode="edge")
        frames = librosa.util.frame(padded, **self.frames)
        return (frames[1:] * frames[:-1] < 0).sum(axis=0, keepdims=True) / self.config.n_fft

    def rms(self):
        return librosa.feature.rms(y=self.y, dtype=np.float64, **self.frames)

    def short_time_energy(self):
        return self.rms() ** 2 * self.config.n_fft

    def autocorrelation(self):
        frames = librosa.util.frame(np.pad(self.y, self.config.n_fft // 2), **self.frames)
        r = librosa.autocorrelate(frames, axis=0)
        return r[autocorrelation_lags(self.config.n_fft)] / r[0]

    def onset_strength(self):
        return librosa.onset.onset_strength(
            S=self.log_mel_db, sr=self.config.sample_rate, n_fft=self.config.n_fft, hop_length=self.config.hop_length
        )[np.newaxis]

    def local_autocorrelation(self):
        sr, hop = self.config.sample_rate, self.config.hop_length
        lags = librosa.time_to_frames(8.0, sr=sr, hop_length=hop).item()
        return librosa.feature.tempogram(
            onset_envelope=self.onset_strength()[0], sr=sr, hop_length=hop, win_length=lags
        )

    def tempogram(self):
        local = self.local_autocorrelation()
        bpm = librosa.tempo_frequencies(len(local), sr=self.config.sample_rate, hop_length=self.config.hop_length)
        bands = [local[(bpm >= low) & (bpm < high)] for low, high in pairwise(TEMPO_BAND_EDGES_BPM)]
        # Long hops leave a fast band without a lag: 0.
        return np.stack([band.sum(axis=0) / max(len(band), 1) for band in bands])

    def tempo(self):
        sr, hop = self.config.sample_rate, self.config.hop_length
        return librosa.feature.tempo(onset_envelope=self.onset_strength()[0], sr=sr, hop_length=hop)

    def of_the_track(self) -> dict[str, float]:
        sr, hop, config = self.config.sample_rate, self.config.hop_length, self.config
        onsets = librosa.onset.onset_strength(
            S=self.log_mel_db, sr=sr, n_fft=config.n_fft, hop_length=hop, aggregate=np.median
        )
        # In single precision, as mgc: medians, and so masks, of what is all but silent are luck.
        parts = librosa.effects.hpss(self.y.astype(np.float32), **self.stft)
        found = {
            "tempo": self.tempo().item(),
            "beat_tempo": librosa.feature.tempo(onset_envelope=onsets, sr=sr, hop_length=hop).item(),
        }
        for name, part in zip(("harmonic", "percussive"), parts, strict=True):
            found |= {f"{name}_mean": float(part.mean(dtype=float)), f"{name}_variance": float(part.var(dtype=float))}
        return found

    def cepstrum(self):
        whole = np.fft.irfft(np.log(np.maximum(self.S, 1e-5)), n=self.config.n_fft, axis=0)
        return whole[: min(self.config.n_mfcc, self.config.n_fft // 2 + 1)]


def features_of(samples: np.ndarray, config: FeatureConfig) -> dict[str, np.ndarray]:
    analysis = Analysis(config)
    return analysis.track([analysis.window(samples)])


def assert_close(name: str, ours: np.ndarray, librosa_says: ByLibrosa) -> None:
    """Within 1e-3 of the feature's scale: of its value, and for features about 0 of what they are a share of."""
    config, theirs = librosa_says.config, librosa_says.feature(name)
    assert ours.shape == theirs.shape, name
    if name == "spectral_contrast":
        least, most = librosa_says.contrast_range()
        allowed = RELATIVE * np.maximum(np.abs(theirs), 1.0)  # dB
        assert (ours >= least - allowed).all()
        assert (ours <= most + allowed).all()
        return
    error = np.abs(ours - theirs)
    scale = np.abs(theirs)
    if name == "spectral_rolloff":
        # The next bin where single precision sees the sum pass the threshold earlier or later.
        assert error.max() <= 1.001 * config.sample_rate / config.n_fft
        assert (error > 0.01).mean() < 0.02
        return
    if name in ("log_mel", "mfcc", "onset_strength"):
        scale = np.maximum(scale, 1.0)  # dB
    elif name in ("mfcc_delta", "mfcc_delta2"):
        scale = np.maximum(scale, 0.1)  # dB a frame
    elif name in ("autocorrelation", "cepstrum", "chroma", "tempogram"):
        scale = 1.0  # shares of r(0), of the strongest pitch class, of the strongest lag
    elif name == "spectral_variance":
        scale = theirs + 1e-3 * scale.max()
    if name == "spectral_flatness":
        # It looks at the softest bins, where single precision's -120 dB of the loudest one shows: 1e-3 for all
        # but a few frames, of which none is far off.
        assert np.quantile(error / scale, 0.99) <= RELATIVE
        assert error.max() <= 1e-3
        return
    worst = (error / np.maximum(scale, 1e-12)).max()
    assert worst <= RELATIVE, f"{name}: {worst:.3g}"


@settings(max_examples=40, deadline=None)
@given(all_settings(), sounds)
@example(  # the softest bin of the lowest band, two bins wide, is -156 dB of the frame's loudest
    FeatureConfig(
        sample_rate=44_100, n_fft=1_000, hop_length=389, n_mels=20, window_seconds=1.0,
        frames=("all",), statistics=("all",), contrast_bands=3, contrast_f_min_hz=90.0,
    ),
    Sound(hz=[5_752.0], noise=0.0625, beats_hz=6.0, gain_db=0.0, seed=25_268_333),
)  # fmt: skip
def test_every_feature_is_librosas(config, sound):
    samples = sound.samples(config)
    ours = features_of(samples, config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filters without a bin
        librosa_says = ByLibrosa(samples, config)
        for name in FRAME_FEATURES:
            assert_close(name, ours[name][0], librosa_says)
        whole = dict(zip(statistics_names(config), ours["statistics"], strict=True))
        for name, theirs in librosa_says.of_the_track().items():
            assert whole[name] == pytest.approx(theirs, rel=RELATIVE, abs=1e-7), name


def test_every_feature_of_real_music_is_librosas(shared_data):
    config = FeatureConfig(window_seconds=30.0, frames=("all",), statistics=("all",))
    for path in sorted((shared_data / "gtzan-audio").glob("*/*.flac"))[::20]:
        samples, rate = soundfile.read(path, dtype="float32", frames=config.window_samples)
        assert rate == config.sample_rate
        ours = features_of(samples, config)
        librosa_says = ByLibrosa(samples, config)
        for name in FRAME_FEATURES:
            assert_close(name, ours[name][0], librosa_says)
