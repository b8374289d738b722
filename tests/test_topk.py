"""The best of many scores against a full sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from din_infer import topk

SPECIAL = st.sampled_from([0.0, -0.0, 0.5, 1.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45])
SCORES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0), elements=st.floats(width=32) | SPECIAL
)


@given(scores=SCORES, k=st.integers(1, 12), chunk=st.integers(1, 12), data=st.data())
def test_chunks_give_what_a_stable_sort_gives(scores, k, chunk, data):
    left_out = data.draw(hnp.arrays(bool, scores.shape))
    best = np.empty((len(scores), 0), np.uint64)
    for first in range(0, scores.shape[1], chunk):
        keys = topk.make_keys(scores[:, first : first + chunk], first)
        keys[left_out[:, first : first + chunk]] = topk.NONE
        best = topk.merge(best, keys, k)
    places, values, lengths = topk.decode(best)
    end = np.cumsum(lengths)
    for row, first, last in zip(range(len(scores)), end - lengths, end, strict=True):
        order = np.argsort(-scores[row], kind="stable")
        order = order[~left_out[row, order]][:k]
        assert places[first:last].tolist() == order.tolist()
        np.testing.assert_array_equal(values[first:last], scores[row, order])


@pytest.mark.parametrize("place", [0, topk.MAX_ITEMS - 1])
def test_no_item_is_taken_for_none(place):
    keys = topk.make_keys(np.array([[np.nan]], np.float32), place)
    assert (keys != topk.NONE).all()
    assert topk.decode(keys)[0].tolist() == [place]
