"""Reading one item ahead."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def lookahead(items: Iterator[T]) -> Generator[T]:
    """The same items; while the caller works on one, a thread fetches the next. Errors come where the item would."""
    with ThreadPoolExecutor(1, "lookahead") as pool:
        end = object()
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
