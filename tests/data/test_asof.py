"""The as-of join against its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from din_infer.data.asof import visible_events

moments = st.lists(st.tuples(st.integers(0, 4), st.integers(-5, 5)), max_size=30)


@given(moments, moments)
def test_a_request_sees_its_users_earlier_events(
    events: list[tuple[int, int]], requests: list[tuple[int, int]]
) -> None:
    events = sorted(events)
    columns = [np.array([row[i] for row in rows], np.int64) for rows in (events, requests) for i in (0, 1)]
    visible = visible_events(*columns)
    for r, (user, time) in enumerate(requests):
        assert events[visible.begin[r] : visible.end[r]] == [e for e in events if e[0] == user and e[1] < time]
        assert events[visible.end[r] : visible.same[r]] == [e for e in events if e == (user, time)]
