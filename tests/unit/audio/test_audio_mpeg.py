"""Which MP3s go to libsndfile."""

from __future__ import annotations

import numpy as np
import pytest
from audio_samples import music, untagged_mp3

from mgc.audio.encode import encode
from mgc.audio.mpeg import looks_like_mpeg, suits_libsndfile


@pytest.fixture(scope="module")
def tagged() -> bytes:
    return encode(music(4.0, 44_100, channels=2), 44_100, "mp3")


def id3v2(size: int) -> bytes:
    return b"ID3\x04\x00\x00" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)


def test_a_tag_that_tells_the_truth_suits(tagged):
    assert suits_libsndfile(tagged)
    assert suits_libsndfile(id3v2(70_000) + tagged), "cover art before the audio is no audio"
    assert suits_libsndfile(tagged + b"TAG" + bytes(125)), "an ID3v1 tag is within the tolerance"


def test_no_tag_a_cut_and_a_join_do_not_suit(tagged):
    assert not suits_libsndfile(untagged_mp3(music(4.0, 44_100, channels=2)))
    assert not suits_libsndfile(tagged[: len(tagged) * 9 // 10])
    assert not suits_libsndfile(tagged + tagged)
    assert not suits_libsndfile(tagged[:40])


def test_mpeg_2_does_not_suit():
    assert not suits_libsndfile(encode(music(2.0, 22_050), 22_050, "mp3"))


def test_a_tag_without_lengths_does_not_suit(tagged):
    at = tagged.find(b"Info" if b"Info" in tagged[:64] else b"Xing")
    assert not suits_libsndfile(tagged[: at + 4] + bytes(4) + tagged[at + 8 :])


def test_mpeg_is_known_by_its_first_bytes(tagged):
    assert looks_like_mpeg(tagged)
    assert looks_like_mpeg(id3v2(10))
    for other in (b"", b"\xff", b"RIFF", b"fLaC", b"OggS", b"text", np.zeros(9, np.uint8).tobytes()):
        assert not looks_like_mpeg(other)
