"""Jobs on threads: in order, and few at a time however many there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from aurora_vl.data.threads import mapped


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_results_come_in_order(count: int, together: int) -> None:
    assert list(mapped(lambda n: n * n, range(count), 4, together)) == [n * n for n in range(count)]


def test_few_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100_000):
            taken.append(number)
            yield number

    found = mapped(str, items(), 2)
    assert next(found) == "0"
    assert len(taken) < 20
    found.close()  # type: ignore[attr-defined]


def test_several_threads_work_at_once() -> None:
    together = threading.Barrier(3, timeout=20)
    assert sorted(mapped(lambda _: together.wait(), range(3), 3)) == [0, 1, 2]


def test_an_error_is_passed_on() -> None:
    with pytest.raises(ZeroDivisionError):
        list(mapped(lambda n: 1 // n, [1, 0, 2], 2))
