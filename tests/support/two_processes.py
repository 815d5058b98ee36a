"""One of two processes that share a batch; `python two_processes.py FOLDER` with RANK set.

Process 0 first computes alone what the two then compute together. Results are left as
FOLDER/alone.pt, FOLDER/0.pt and FOLDER/1.pt for tests/tasks/test_two_processes.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny_blip import batch, tiny_model
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from aurora_vl.tasks.retrieval import RetrievalSettings, RetrievalTask

CASES = [  # method, ice, momentum, queue, videos instead of pictures
    ("full", "off", 0.9, 21, False),
    ("aurora", "symmetric", 0.9, 40, False),
    ("aurora", "adaptive", None, 5, False),
    ("full", "released", 0.9, 0, False),
    ("aurora", "released", 0.9, 21, True),
]
# Pictures of 16 pairs, 8 a process; some come twice in one process, some in both.
INDEX = [0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 0, 9, 10, 11, 3, 11]
STEPS = 3
RATE = 0.02


def pairs(step: int, rank: int | None, videos: bool) -> dict[str, Tensor]:
    """The 16 pairs of a step, or a process's 8, padded to their own longest caption."""
    made = batch(INDEX, length=9, seed=step)
    if videos:
        first = made["pixel_values"]
        made["pixel_values"] = torch.stack([first, first.flip(-1), -first], 1)
    made["attention_mask"][:8, 6:] = 0  # the captions of process 0 are shorter
    made["input_ids"][:8, 6:] = 0
    if rank is not None:
        made = {name: value[8 * rank : 8 * rank + 8] for name, value in made.items()}
        longest = int(made["attention_mask"].sum(1).max())
        for name in ("input_ids", "attention_mask"):
            made[name] = made[name][:, :longest]
    return made


def run(case: tuple[str, str, float | None, int, bool], rank: int | None) -> dict[str, Any]:
    """Train some steps; the losses and gradients of each and the state at the end."""
    method, ice, momentum, queue, videos = case
    settings = RetrievalSettings(queue=queue, momentum=momentum, ramp_steps=2, ice=ice)  # type: ignore[arg-type]
    task = RetrievalTask(tiny_model(method), settings).train()
    module: nn.Module = task
    if rank is not None:
        module = DistributedDataParallel(
            task, broadcast_buffers=False, find_unused_parameters=False
        )
    steps = []
    for step in range(STEPS):
        losses = module(**pairs(step, rank, videos))
        losses["loss"].backward()
        gradients = {n: p.grad.clone() for n, p in task.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for parameter in task.parameters():
                if parameter.requires_grad:
                    parameter -= RATE * parameter.grad
                    parameter.grad = None
        steps.append(({n: v.detach() for n, v in losses.items()}, gradients))
    return {"steps": steps, "state": task.state_dict()}


def main() -> None:
    """Run every case and leave the results."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    torch.set_num_threads(1)
    if rank == 0:
        torch.save([run(case, None) for case in CASES], folder / "alone.pt")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save([run(case, rank) for case in CASES], folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
