"""Checkpoints: what they hold of a task, whether they are whole, and which one is gone on from.

A checkpoint holds what is trained plus the momentum copy, the queue and their counters; Trainer
itself would save 223M frozen parameters and none of these.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aurora_vl.errors import UserError
from aurora_vl.utils.atomic import whole_folder
from aurora_vl.utils.distributed import barrier, from_main, rank

STATE_FILE = "aurora_state.safetensors"
_CHECKSUMS = "checksums.json"

log = logging.getLogger(__name__)


@contextmanager
def checkpoint_folder(final: Path) -> Iterator[Path]:
    """The folder that all processes write a checkpoint into, put in place when all are done."""
    if rank() == 0:
        with whole_folder(final, replace=True) as staging:
            yield from_main(staging)
            barrier()
            digests = {file.name: _digest(file) for file in staging.iterdir()}
            (staging / _CHECKSUMS).write_text(json.dumps(digests, indent=1) + "\n")
    else:
        yield from_main(None)
        barrier()
    barrier()


def task_state(task: nn.Module) -> dict[str, Tensor]:
    """What changes in training: trained parameters, moving averages, queue and counters.

    Returns:
        the tensors themselves, by the task's names.
    """
    trained = {name: p.detach() for name, p in task.named_parameters() if p.requires_grad}
    kept = task.state_dict()
    buffers = {name: b for name, b in task.named_buffers() if name in kept}
    return {**trained, **buffers}


@torch.no_grad()
def load_task_state(task: nn.Module, checkpoint: Path) -> None:
    """Put a checkpoint's values in place.

    Raises:
        UserError: the checkpoint belongs to another kind of run.
    """
    stored = load_file(checkpoint / STATE_FILE)
    current = task_state(task)
    shapes = {name: value.shape for name, value in current.items()}
    if shapes != {name: value.shape for name, value in stored.items()}:
        odd = sorted(set(shapes) ^ set(stored)) or sorted(
            n for n in shapes if shapes[n] != stored[n].shape
        )
        raise UserError(
            f"{checkpoint} belongs to a run with other settings (first difference: {odd[0]}); "
            "train into a new output."
        )
    for name, value in current.items():
        value.copy_(stored[name])


def checkpoints_in(folder: Path) -> list[Path]:
    """A run's checkpoints, damaged ones too, those with the most steps first."""
    numbered = [p for p in folder.glob("checkpoint-*") if p.name.split("-", 1)[1].isdecimal()]
    return sorted(numbered, key=lambda p: int(p.name.split("-", 1)[1]), reverse=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the most steps that is not damaged, if there are checkpoints at all.

    Raises:
        UserError: all of them are damaged.
    """
    found = checkpoints_in(folder)
    for checkpoint in found:
        damaged = damaged_file(checkpoint)
        if damaged is None:
            return checkpoint
        log.warning("%s is damaged; the checkpoint before it is taken", damaged)
    if found:
        raise UserError(
            f"every checkpoint in {folder} is damaged; remove this folder, and the same command "
            "with --resume begins again."
        )
    return None


def damaged_file(checkpoint: Path) -> Path | None:
    """The first file of a checkpoint that is absent or not as it was written, if there is one."""
    listed = checkpoint / _CHECKSUMS
    try:
        digests = dict(json.loads(listed.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return listed
    for name, digest in digests.items():
        file = checkpoint / name
        if not file.is_file() or _digest(file) != digest:
            return file
    return None


def _digest(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def processes_of(checkpoint: Path) -> int:
    """How many processes wrote a checkpoint: each left the state of its random numbers."""
    return len(list(checkpoint.glob("rng_state*.pth")))
