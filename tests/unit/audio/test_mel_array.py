from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mgc.audio.extraction import extract
from mgc.audio.mel_array import MEL_FORMATS, mel_format, read_array, read_mels
from mgc.audio.windows import kept_frames, thinned
from mgc.config import DecodeConfig, FeatureConfig, MelsConfig, load_config
from mgc.errors import ConfigError, TrackCode, TrackError

FEATURES = FeatureConfig(sample_rate=8_000, n_fft=256, hop_length=80, n_mels=8, window_seconds=0.5, max_windows=4)
AS_IS = MelsConfig(reference="as_is")


def saved(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def ramp(frames: int) -> np.ndarray:
    """Bands first; every value shows its band and frame."""
    return -(np.arange(8)[:, None] + np.arange(frames)[None, :] / 1000).astype(np.float32)


def code_of(data: bytes, mels: MelsConfig = AS_IS) -> tuple[TrackCode, str]:
    with pytest.raises(TrackError) as caught:
        read_mels(data, FEATURES, mels)
    return caught.value.track_code, caught.value.message


def test_an_array_becomes_windows_as_audio_would() -> None:
    track = read_mels(saved(ramp(200)), FEATURES, AS_IS)
    assert track.duration_seconds == 2.0
    assert track.log_mel.shape == (4, 51, 8)
    starts = track.log_mel[:, 0, 0] * -1000
    np.testing.assert_allclose(starts, [0, 50, 100, 149], atol=1e-3)  # the last one ends with the track
    np.testing.assert_array_equal(track.log_mel[0], ramp(51).T)


def test_a_short_array_is_filled_up_with_silence() -> None:
    track = read_mels(saved(ramp(10)), FEATURES, AS_IS)
    assert track.log_mel.shape == (1, 51, 8)
    np.testing.assert_array_equal(track.log_mel[0, :10], ramp(10).T)
    assert (track.log_mel[0, 10:] == -80.0).all()
    assert track.duration_seconds == pytest.approx(0.1)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
def test_either_layout_order_and_float_gives_the_same(dtype: str) -> None:
    array = ramp(60).astype(dtype)
    frames_first = AS_IS.model_copy(update={"layout": "frames_first"})
    first = read_mels(saved(array), FEATURES, AS_IS).log_mel
    np.testing.assert_array_equal(first, read_mels(saved(array.T), FEATURES, frames_first).log_mel)
    np.testing.assert_array_equal(first, read_mels(saved(np.asfortranarray(array)), FEATURES, AS_IS).log_mel)


def test_values_become_decibels_below_the_maximum() -> None:
    half_units = MelsConfig(unit_db=0.5)
    array = np.full((8, 60), -300.0, np.float32)
    array[3, 7], array[3, 8] = -20.0, -60.0
    log_mel = read_mels(saved(array), FEATURES, half_units).log_mel
    assert log_mel[0, 7, 3] == 0.0
    assert log_mel[0, 8, 3] == -20.0
    assert log_mel.min() == -80.0


def test_what_is_no_mel_spectrogram_is_refused_with_its_reason() -> None:
    good = saved(ramp(60))
    nan = ramp(60)
    nan[2, 5] = np.nan
    assert code_of(b"") == (TrackCode.EMPTY_FILE, "the file has 0 bytes")
    assert code_of(b"RIFF....WAVE")[0] == TrackCode.NOT_MELS
    assert code_of(b"\x93NUMPY\x01\x00\xff\xff")[0] == TrackCode.NOT_MELS
    assert code_of(b"\x93NUMPY\x09\x00" + good[8:])[0] == TrackCode.NOT_MELS
    assert code_of(good[:-4]) == (
        TrackCode.DECODE_FAILED,
        "truncated: 1916 bytes of an array of shape (8, 60), which has 1920",
    )
    assert code_of(saved(ramp(60).T)) == (TrackCode.MELS_MISFIT, "its shape is (60, 8), not (8, frames)")
    assert code_of(saved(ramp(60)[None]))[0] == TrackCode.MELS_MISFIT
    assert code_of(saved(np.zeros((8, 0), np.float32)))[0] == TrackCode.NO_SAMPLES
    assert code_of(saved(nan)) == (TrackCode.NOT_FINITE, "1 of 480 values are NaN or infinite")
    assert code_of(saved(np.full((8, 60), 1e300)))[0] == TrackCode.NOT_FINITE
    assert code_of(saved(np.zeros((8, 60), np.int16))) == (TrackCode.NOT_MELS, "an array of int16, not of floats")
    assert code_of(saved(ramp(60) + 10.0))[0] == TrackCode.MELS_MISFIT


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    witness = tmp_path / "executed"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (witness,)  # type: ignore[return-value]

    code, message = code_of(saved(np.array([Trap()], dtype=object), allow_pickle=True))
    assert code == TrackCode.NOT_MELS
    assert "pickle" in message
    assert not witness.exists()


def test_a_header_that_claims_terabytes_allocates_nothing() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (8, 1099511627776), }"
    header = header.ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(TrackError, match="truncated"):
        read_array(data)
    negative = data.replace(b"1099511627776", b"-109951162777")
    with pytest.raises(TrackError):
        read_array(negative)


def test_one_frame_in_so_many_is_kept() -> None:
    config = FeatureConfig(frame_stride=2.5, frame_phase=1.0)
    np.testing.assert_array_equal(kept_frames(10, config), [1, 3, 6, 8])
    frames = np.arange(20, dtype=np.float32).reshape(2, 10, 1)
    np.testing.assert_array_equal(thinned(frames, config)[1, :, 0], [11, 13, 16, 18])
    assert thinned(frames, FeatureConfig()) is frames
    assert config.n_frames == len(kept_frames(220_500 // 512 + 1, config))
    assert config.frames_per_second == pytest.approx(22_050 / 512 / 2.5)


def test_settings_that_would_keep_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="frame_phase"):
        load_config(None, ["features.frame_phase=900"])


@pytest.mark.parametrize("name", MEL_FORMATS)
def test_every_format_is_valid_settings(name: str) -> None:
    config = load_config(None, list(mel_format(name).settings))
    assert config.mels.describe() == "audio" if config.mels.like_audio else "npy" in config.mels.describe()


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mtg-jamendo'"):
        mel_format("mtg_jamendo")


def test_audio_gives_the_published_gtzan_mels(shared_data: Path) -> None:
    """The map of `gtzan-melspecs` was fitted on these clips; the values were not, nor the windows."""
    config = load_config(None, list(mel_format("gtzan-melspecs").settings))
    clips = pl.read_csv(shared_data / "gtzan-audio/manifest.csv").filter(pl.col("genre").is_in(["blues", "rock"]))
    for path in clips["path"]:
        array = (shared_data / "gtzan-melspecs" / path).with_suffix(".npy").read_bytes()
        published = read_mels(array, config.features, config.mels).log_mel
        ours = extract((shared_data / "gtzan-audio" / path).read_bytes(), config.features, DecodeConfig()).log_mel
        assert published.shape == ours.shape == (1, 387, 128)
        # 8 bits over 80 dB are steps of 0.314 dB.
        assert np.abs(published - ours).max() < 0.32
