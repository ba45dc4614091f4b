"""The fuzz target itself: a short run each time, a longer one with the slow tests."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz_decode import FEATURES, LIMITS, fuzz, hear, mutated, seed_files

from mgc.audio.sandbox.supervisor import SupervisedExtractor


@pytest.mark.parametrize(
    ("count", "seed"), [(150, 0), pytest.param(3_000, 1, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])]
)
def test_every_mutated_file_has_an_answer_and_none_is_a_fault_of_ours(count: int, seed: int) -> None:
    tally = fuzz(count, seed, None)
    assert sum(tally.codes.values()) == count
    assert tally.faults == 0, tally.offenders
    assert tally.codes["decoded"] > count / 10, "mutations must leave something to decode, or nothing deep is reached"
    assert len(tally.codes) >= 3


def test_the_seeds_are_good_files() -> None:
    with SupervisedExtractor(FEATURES, LIMITS) as extractor:
        assert {name: hear(extractor, data) for name, data in seed_files().items()} == dict.fromkeys(
            seed_files(), "decoded"
        )


def test_a_mutation_can_be_made_again() -> None:
    seeds = [bytes(range(256)) * 9, b"fLaC" * 99]
    for number in range(200):
        first, again = (mutated(seeds, np.random.default_rng([7, number])) for _ in range(2))
        assert first == again
