"""Many small jobs on a few threads, without holding all of them at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def mapped(
    function: Callable[[T], U], items: Iterable[T], threads: int, together: int = 1
) -> Iterator[U]:
    """As `map`, on threads; unlike `Executor.map` it keeps few jobs waiting at a time.

    Args:
        function: of one item.
        items: in any number.
        threads: that work at once.
        together: items that make one job; more where an item takes microseconds.
    """

    def job(part: list[T]) -> list[U]:
        return [function(item) for item in part]

    rest = iter(items)
    parts = iter(lambda: list(islice(rest, together)), [])
    waiting: deque[Future[list[U]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        waiting.extend(pool.submit(job, part) for part in islice(parts, 4 * threads))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(pool.submit(job, part) for part in islice(parts, 1))
