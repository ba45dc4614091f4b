"""The way back from new bytes to old ones leads there, whatever was moved, and holds little where little changed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mgc.curation.filetags.journal import LITERAL_BYTES, applied, delta_back, delta_from_json, delta_to_json

small = st.binary(max_size=300)


@given(small, small)
def test_any_two_files_lead_back(old: bytes, new: bytes) -> None:
    delta = delta_back(old, new)
    assert delta is not None
    assert applied(new, delta_from_json(delta_to_json(delta))) == old


@given(st.integers(0, 2**32), st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 5_000), st.booleans())
def test_an_edit_costs_what_it_changed(seed: int, removed: bytes, added: bytes, at: int, swapped: bool) -> None:
    sound = np.random.default_rng(seed).bytes(20_000)
    old = sound[:at] + removed + sound[at:]
    new = added + sound[10_000:] + sound[:10_000] if swapped else sound[:at] + added + sound[at:] + bytes(1_000)
    delta = delta_back(old, new)
    assert delta is not None
    assert applied(new, delta) == old
    assert sum(len(step) for step in delta if isinstance(step, bytes)) <= len(removed) + 200


def test_files_with_nothing_in_common_have_no_short_way_back() -> None:
    random = np.random.default_rng(0)
    assert delta_back(random.bytes(LITERAL_BYTES + 100), random.bytes(1_000)) is None
