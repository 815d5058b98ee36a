"""Peak memory of one contender, measured in a process that does nothing else.

Within one process a peak would be the largest contender's, so each gets its own:
`python -m aurora_vl.benchmarking.memory JOB CONTENDER SETUP` runs it and prints the peak.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib import import_module

import torch

from aurora_vl.benchmarking.setup import Setup

_UNIT = 1e6
_RUNS = 2  # the second meets the optimizer's state and the first one's fragments
_MODULES = {
    "train-step": "aurora_vl.benchmarking.train_step",
    "gallery": "aurora_vl.benchmarking.rerank",
    "inference": "aurora_vl.benchmarking.inference",
}


def peaks_of(job: str, names: Iterable[str], setup: Setup) -> dict[str, float]:
    """Peak memory of each contender, in 10^6 bytes.

    Args:
        job: a key of the modules that offer `contender(name, setup)`.
        names: its contenders.
        setup: as for the job.

    Raises:
        RuntimeError: a contender failed, such as for want of memory.
    """
    found = {}
    for name in names:
        given = [job, name, json.dumps(asdict(setup))]
        command = [sys.executable, "-W", "ignore", "-m", "aurora_vl.benchmarking.memory", *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{job}: {name} failed: {done.stderr.strip()[-500:]}")
        found[name] = float(done.stdout.split()[-1])
    return found


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


def _measure(job: str, name: str, setup: Setup) -> float:
    run = import_module(_MODULES[job]).contender(name, setup)
    for _ in range(_RUNS):
        run()
    if setup.torch_device.type == "cuda":
        return torch.cuda.max_memory_allocated(setup.torch_device) / _UNIT
    return process_peak()


if __name__ == "__main__":
    sys.stdout.write(f"{_measure(sys.argv[1], sys.argv[2], Setup(**json.loads(sys.argv[3])))}\n")
