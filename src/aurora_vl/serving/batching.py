"""One thread for the model, which computes the rows of many requests together.

Rows wait in a queue of bounded length. When the thread is free it takes what waits for the same
work; where the queue was empty, the first row waits a few milliseconds for others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aurora_vl.errors import UserError
from aurora_vl.serving.errors import ApiError
from aurora_vl.serving.limits import Limits
from aurora_vl.serving.metrics import Metrics

R = TypeVar("R")
T = TypeVar("T")
Work = Callable[[Sequence[R]], Sequence[T]]
"""Computes one result for each row."""


@dataclass(eq=False, slots=True)
class _Job:
    work: Work[Any, Any]
    rows: Sequence[Any]
    arrived: float = field(default_factory=time.monotonic)
    future: Future[list[Any]] = field(default_factory=Future)


class Batcher:
    """Runs work on one thread, batched.

    Args:
        limits: see there for `waiting`, `batch` and `batch_wait`.
        metrics: batch sizes and the length of the queue are told to it.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._jobs: deque[_Job] = deque()
        self._waiting = 0  # rows in the queue
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="model", daemon=True)
        self._thread.start()

    async def run(self, work: Work[R, T], rows: Sequence[R]) -> list[T]:
        """The results of some rows, in order.

        Args:
            work: equal functions of several requests are called once, with the rows of all.
            rows: of this request.

        Raises:
            ApiError: 503, the queue is full or the server stops.
            UserError: as the work raises it for these rows.
        """
        job = _Job(work, rows)
        with self._changed:
            full = self._jobs and self._waiting + len(rows) > self._limits.waiting
            if full or self._stopping:
                reason = "the server is stopping" if self._stopping else "too many requests wait"
                self._metrics.rejected.inc()
                raise ApiError(
                    503, f"{reason}; try again.", code="overloaded", headers={"Retry-After": "1"}
                )
            self._jobs.append(job)
            self._count(len(rows))
            self._changed.notify_all()
        return await asyncio.wrap_future(job.future)

    def stop(self) -> None:
        """Finish what was taken, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _serve(self) -> None:
        while jobs := self._take():
            running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if running:
                self._metrics.batch_rows.observe(sum(len(job.rows) for job in running))
                _finish(running)

    def _take(self) -> list[_Job]:
        """The oldest job and those that are computed with it; none when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._stopping)
            if not self._jobs:
                return []
            first = self._jobs[0]
            until = first.arrived + self._limits.batch_wait
            while self._waiting < self._limits.batch and not self._stopping:
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    break
            taken: list[_Job] = []
            rows = 0
            for job in self._jobs:
                fits = not taken or rows + len(job.rows) <= self._limits.batch
                if job.work == first.work and fits:
                    taken.append(job)
                    rows += len(job.rows)
            self._jobs = deque(job for job in self._jobs if job not in taken)
            self._count(-rows)
            return taken

    def _count(self, rows: int) -> None:
        self._waiting += rows
        self._metrics.waiting.set(self._waiting)


def _finish(jobs: Sequence[_Job]) -> None:
    """Compute jobs of the same work; where one's rows are wrong, only it fails."""
    rows = [row for job in jobs for row in job.rows]
    try:
        results = list(jobs[0].work(rows))
    except UserError as error:
        if len(jobs) == 1:
            jobs[0].future.set_exception(error)
        else:
            for job in jobs:
                _finish([job])
    except Exception as error:  # each request is answered 500, and the thread goes on
        for job in jobs:
            job.future.set_exception(error)
    else:
        for job in jobs:
            job.future.set_result(results[: len(job.rows)])
            results = results[len(job.rows) :]
