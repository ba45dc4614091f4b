from __future__ import annotations

import os
import threading

import numpy as np

from mgc.audio.sandbox.ipc import Message, receive, send


def through_a_pipe(message: Message) -> Message:
    out, into = os.pipe()
    sender = threading.Thread(target=send, args=(into, message))
    sender.start()
    found = receive(out)
    sender.join()
    os.close(out)
    os.close(into)
    return found


def test_named_arrays_arrive_as_they_were_and_aligned() -> None:
    random = np.random.default_rng(0)
    sent = {
        "halves": random.normal(size=(1, 3, 5)).astype("<f2"),
        "floats": random.normal(size=(2, 3)).astype("<f4"),
        "transposed": random.normal(size=(300, 400)).astype("<f4").T,
        "none": np.zeros((0, 4), dtype="<f4"),
    }
    found = through_a_pipe(Message({"duration_seconds": 1.5}, arrays=sent))
    assert found.header == {"duration_seconds": 1.5}
    assert found.arrays.keys() == sent.keys()
    for name, array in sent.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].flags.aligned


def test_raw_bytes_arrive_as_they_were() -> None:
    found = through_a_pipe(Message({}, b"RIFF" * 100_000))
    assert bytes(found.body) == b"RIFF" * 100_000
    assert found.arrays == {}
