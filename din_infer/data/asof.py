"""The as-of join: which of a user's events a request may see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from din_infer.data.ragged import Ints


@dataclass(frozen=True)
class Visible:
    """The history of request r is the events `begin[r]:end[r]`; those from `end[r]` to `same[r]` share its time."""

    begin: Ints
    end: Ints
    same: Ints


def visible_events(event_user: Ints, event_time: Ints, request_user: Ints, request_time: Ints) -> Visible:
    """For each request the events of its user with a strictly earlier time.

    Users are numbered from 0; the events [E] ascend by user, then time; the requests [R] may have any order.
    """
    moments = np.unique(np.concatenate([event_time, request_time]))
    span = len(moments) + 1  # so that a user's keys stay below the next user's
    events = event_user * span + np.searchsorted(moments, event_time)
    first = request_user * span
    requests = first + np.searchsorted(moments, request_time)
    return Visible(
        begin=np.searchsorted(events, first),
        end=np.searchsorted(events, requests),
        same=np.searchsorted(events, requests, side="right"),
    )
