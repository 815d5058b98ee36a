"""A training step: ours, a reference implementation, LoRA, full fine-tuning, a frozen backbone.

A step is forward, backward and AdamW. All contenders get the same batch and queue; dropout is off,
so that the reference implementation and ours have the same loss. All others train with our task, so
that they differ only in what is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.backbones.blip.modeling import HEADS
from aurora_vl.backbones.gradient_checkpointing import recompute_layers
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask
from benchmarks.measuring import Row, bfloat16_pays, rows_of, time_in_turn
from benchmarks.memory import peaks_of
from benchmarks.operations import GIGA, counting
from benchmarks.reference_implementation import ReferenceRetrieval
from benchmarks.setup import Setup, moved

JOB = "train-step"
REFERENCE = "reference"
OURS = "aurora"
BFLOAT16 = "aurora in bfloat16"
RECOMPUTING = "aurora recomputing layers"
_SAME_LOSSES = {OURS: REFERENCE, "aurora without momentum": "reference without momentum"}
CONTENDERS = (
    REFERENCE,
    "reference without momentum",
    OURS,
    "aurora without momentum",
    BFLOAT16,
    RECOMPUTING,
    "lora",
    "full",
    "heads alone",
)
_MOMENTUM = 0.995


def build(name: str, setup: Setup, *, start: bool = True) -> nn.Module:
    """A contender's task in training mode: called with a batch it gives `loss` and its parts.

    Args:
        name: one of `CONTENDERS`.
        setup: sizes and device.
        start: adapters start as the frozen model; False changes it.
    """
    method = name.split()[0]
    momentum = None if "without momentum" in name else _MOMENTUM
    if method in ("reference", "aurora"):
        model: nn.Module = setup.with_aurora(start=start)
    elif method == "lora":
        model = setup.with_lora()
    else:
        model = setup.model()
        for part in [model] if method == "full" else [getattr(model, head) for head in HEADS]:
            part.requires_grad_(True)
        model.temperature.requires_grad_(False)
    if name == RECOMPUTING:
        recompute_layers(model, ("vision", "text"))
    queue = _queue(setup)
    if method == "reference":
        return ReferenceRetrieval(model, *queue, momentum=momentum).train()
    settings = RetrievalSettings(
        queue=setup.queue, momentum=momentum, warm_momentum=False, ramp_steps=0
    )
    task = RetrievalTask(BlipDualEncoder(model), settings)
    for buffer, value in zip((task.image_queue, task.text_queue, task.index_queue), queue):
        buffer.copy_(value)
    return task.train()


def measured(device: torch.device) -> tuple[str, ...]:
    """The contenders that are measured on a device: all, or all but bfloat16."""
    return tuple(name for name in CONTENDERS if name != BFLOAT16 or bfloat16_pays(device))


def contender(name: str, setup: Setup) -> Callable[[], dict[str, Tensor]]:
    """One training step of a contender, to be called again and again."""
    return stepping(build(name, setup), setup.pairs(), half=name == BFLOAT16)


def stepping(
    task: nn.Module, batch: Mapping[str, Any], *, half: bool
) -> Callable[[], dict[str, Tensor]]:
    """A step of a task on one batch: forward, backward and AdamW.

    `half` runs the forward pass under autocast, as `training.precision: bfloat16` does.
    """
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad])
    device = batch["media_index"].device.type

    def step() -> dict[str, Tensor]:
        with torch.autocast(device, torch.bfloat16) if half else nullcontext():
            losses = task(**batch)
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        return losses

    return step


def counted_operations(name: str, setup: Setup, *, tokens: int | None = None) -> float:
    """Operations of a step's matrix products and convolutions, forward and backward, in 10^9.

    Counted on shapes alone; two operations a multiplication with its sum.

    Args:
        name: a contender.
        setup: sizes.
        tokens: captions all of this length instead of natural ones.
    """
    batch = setup.pairs()
    if tokens is not None:
        ids = torch.ones(setup.batch, tokens, dtype=torch.long)
        batch["texts"] = {"input_ids": ids, "attention_mask": ids}
    with torch.device("meta"):
        return counted(build(name, replace(setup, device="meta")), batch)


def counted(task: nn.Module, batch: dict[str, Any]) -> float:
    """Operations of a step of a task on a batch, in 10^9; both go to the meta device."""
    with torch.device("meta"), counting() as counter:
        task.to("meta")(**moved(batch, "meta"))["loss"].backward()
    return counter.get_total_flops() / GIGA


def loss_differences(setup: Setup) -> dict[str, float]:
    """By how much our losses of a batch differ at most from the reference implementation's.

    The adapters are changed from their start, where they would do nothing.
    """
    return {
        name: max(abs(value - theirs) for value, theirs in zip(_losses(name, setup), other))
        for name, reference in _SAME_LOSSES.items()
        for other in [_losses(reference, setup)]
    }


@torch.no_grad()
def _losses(name: str, setup: Setup) -> list[float]:
    losses = build(name, setup, start=False)(**setup.pairs())
    return [float(losses[part]) for part in ("loss_itc", "loss_itm")]


def compare(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Time all contenders in turn; ratios are against the reference with momentum."""
    differences = loss_differences(setup)
    names = measured(setup.torch_device)
    steps = {name: contender(name, setup) for name in names}
    seconds = time_in_turn(steps, repeats, setup.torch_device)
    countable = setup.backbone == "base"
    return rows_of(
        JOB,
        seconds,
        reference=REFERENCE,
        items=dict.fromkeys(names, setup.batch),
        peak_mb=peaks_of(JOB, names, setup)[0] if memory else None,
        gflop={n: counted_operations(n, setup) for n in names} if countable else None,
        difference=differences,
        precision={BFLOAT16: "bfloat16"},
    )


def _queue(setup: Setup) -> tuple[Tensor, Tensor, Tensor]:
    """A full queue: features of length 1 of pictures that are in no batch."""
    width = setup.config().image_text_hidden_size
    generator = None if setup.device == "meta" else torch.Generator().manual_seed(2)
    image, text = (
        F.normalize(torch.randn(setup.queue, width, generator=generator), dim=-1) for _ in range(2)
    )
    index = torch.arange(setup.queue) + 1_000_000
    image, text, index = (x.to(setup.torch_device) for x in (image, text, index))
    return image, text, index
