"""Peak memory of one contender, measured in a process that does nothing else.

Within one process a peak would be that of the largest contender, so each gets its own:
`python -m benchmarks.memory JOB CONTENDER SETUP RUNS` runs it and prints the peak and
how long each run took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.measuring import wait
from benchmarks.setup import Setup

_UNIT = 1e6
_CHECKOUT = Path(__file__).resolve().parents[1]
_MODULES = {
    "train-step": "benchmarks.train_step",
    "changes": "benchmarks.changes",
    "gallery": "benchmarks.rerank",
    "inference": "benchmarks.inference",
}


def peaks_of(
    job: str, names: Iterable[str], setup: Setup, *, runs: int = 2
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Peak memory of each contender in 10^6 bytes, and the seconds of each of its runs.

    Args:
        job: a key of the modules that offer `contender(name, setup)`.
        names: its contenders.
        setup: as for the job.
        runs: the second one of a training step meets the optimizer's state.

    Raises:
        RuntimeError: a contender failed, such as for want of memory.
    """
    peaks, seconds = {}, {}
    places = os.pathsep.join(filter(None, [str(_CHECKOUT), os.environ.get("PYTHONPATH")]))
    for name in names:
        given = [job, name, json.dumps(asdict(setup)), str(runs)]
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", *given]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": places},
        )
        if done.returncode:
            raise RuntimeError(f"{job}: {name} failed: {done.stderr.strip()[-500:]}")
        peaks[name], seconds[name] = json.loads(done.stdout.splitlines()[-1])
    return peaks, seconds


def process_peak() -> float:
    """Most memory this process ever held, in 10^6 bytes."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            line = next(line for line in file if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / _UNIT
    except (OSError, StopIteration):
        import resource  # absent on Windows, where the file is absent too

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024) / _UNIT


def _measure(job: str, name: str, setup: Setup, runs: int) -> tuple[float, list[float]]:
    run = import_module(_MODULES[job]).contender(name, setup)
    seconds = []
    for _ in range(runs):
        wait(setup.torch_device)
        start = time.perf_counter()
        run()
        wait(setup.torch_device)
        seconds.append(time.perf_counter() - start)
    if setup.torch_device.type == "cuda":
        return torch.cuda.max_memory_allocated(setup.torch_device) / _UNIT, seconds
    return process_peak(), seconds


def _main(job: str, name: str, setup: str, runs: str) -> None:
    measured = _measure(job, name, Setup(**json.loads(setup)), int(runs))
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
