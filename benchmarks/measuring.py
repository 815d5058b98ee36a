"""Timing contenders in turn, their ratios with intervals, and what machine it was.

Contenders run one after the other within each repeat, the order turned round every time, so that a
slow spell of the machine meets all of them; ratios are taken within a repeat.
"""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

_DRAWS = 10_000
_PROBE_SECONDS = 0.1
RATES = ("float32", "bfloat16")
BUSY = 0.5
"""A load average, ours not included, above which seconds are not to be trusted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's result.

    Attributes:
        name: job and contender, as in "train-step: aurora".
        median_s, min_s, max_s: seconds over the repeats.
        peak_mb: peak memory of a process (on a GPU: of its tensors) that does only this, in units
            of 10^6 bytes; None where it was not measured.
        ratio: median over the repeats of its seconds by the reference's; None without a reference.
        ratio_low, ratio_high: 95 % interval of that median, by bootstrap over the repeats.
        gflop: counted operations of one run, in 10^9; None where they were not counted.
        floor_s: seconds those operations would take at the rate of one large product of matrices,
            measured in the same run.
        per_second: items of work a second at the median, where a job has items.
        difference: largest difference of its result from the reference's, where both do one job.
        remark: what else was compared.
        precision: in which its products are taken.
        seconds: of every repeat.
    """

    name: str
    median_s: float
    min_s: float
    max_s: float
    peak_mb: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    gflop: float | None = None
    floor_s: float | None = None
    per_second: float | None = None
    difference: float | None = None
    remark: str | None = None
    precision: str = "float32"
    seconds: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def time_in_turn(
    contenders: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each contender in each repeat, after one run of each that does not count.

    Args:
        contenders: what to call, by name.
        repeats: at least 1.
        device: waited for before and after each run.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for name in names:
        contenders[name]()
    for repeat in range(repeats):
        for name in names if repeat % 2 == 0 else reversed(names):
            gc.collect()
            wait(device)
            start = time.perf_counter()
            contenders[name]()
            wait(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def rows_of(
    job: str,
    seconds: Mapping[str, Sequence[float]],
    *,
    reference: str | None = None,
    items: Mapping[str, int] | None = None,
    **columns: Mapping[str, Any] | None,
) -> list[Row]:
    """One row a contender.

    Args:
        job: stands before the contenders' names.
        seconds: as `time_in_turn` gives them.
        reference: the contender that ratios are taken against.
        items: items of work that one run does, by contender.
        columns: further attributes of `Row` by contender, such as peak_mb.
    """
    rows = []
    for name, values in seconds.items():
        found: dict[str, Any] = {
            column: known[name] for column, known in columns.items() if known and name in known
        }
        if reference is not None:
            ratio = ratio_interval(values, seconds[reference])
            found |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio))
        middle = float(np.median(values))
        if items and name in items:
            found["per_second"] = items[name] / middle
        row = Row(f"{job}: {name}", middle, min(values), max(values), **found)
        rows.append(replace(row, seconds=tuple(values)))
    return rows


def ratio_interval(a: ArrayLike, b: ArrayLike, *, seed: int = 0) -> tuple[float, float, float]:
    """The median of the paired ratios a / b and its 95 % percentile interval.

    Args:
        a: seconds (repeats,).
        b: seconds of the reference in the same repeats.
        seed: of the draws.
    """
    ratios = np.asarray(a, dtype=np.float64) / np.asarray(b, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(ratios.size, size=(_DRAWS, ratios.size))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), (2.5, 97.5))
    return float(np.median(ratios)), float(low), float(high)


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Operations a second, in 10^9, of a large product of square matrices: the fastest of four.

    Small products come first, each twice as wide as the one before, up to 2048 (8192 on a GPU) or
    until the next would take longer than `seconds`: bfloat16 is up to 60 times slower than float32
    on a CPU that has no instructions for it.
    """
    size = 256
    rate = _rate(size, device, dtype)
    largest = 8192 if device.type == "cuda" else 2048
    while size < largest and _operations(2 * size) / rate <= seconds:
        size *= 2
        rate = _rate(size, device, dtype)
    return rate / 1e9


@cache
def bfloat16_pays(device: torch.device) -> bool:
    """Whether a step in bfloat16 is worth measuring, by a probe of a moment.

    Where products in it take over four times as long as in float32, a step would take minutes.
    """
    half, single = (
        matrix_rate(device, dtype, _PROBE_SECONDS) for dtype in (torch.bfloat16, torch.float32)
    )
    return half > single / 4


def _rate(size: int, device: torch.device, dtype: torch.dtype) -> float:
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    return _operations(size) / min(time_in_turn({"": lambda: a @ b}, 4, device)[""])


def _operations(size: int) -> int:
    """Of one product of square matrices: a multiplication and an addition for each term."""
    return 2 * size**3


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers are measured on, how fast it multiplies and how busy it was before."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "gflop_per_second": {name: matrix_rate(device, getattr(torch, name)) for name in RATES},
        "bfloat16_pays": bfloat16_pays(device),
        "load_before": load,
        "busy": load is not None and load > BUSY,
    }


def default_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
