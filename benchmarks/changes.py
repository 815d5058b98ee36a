"""What each change gives: our training step, and our re-ranking, with one of them undone at a time.

Ratios are against the form with every change in force, so that a gain reads as a number above 1.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from aurora_vl.backbones.base import TextInputs
from aurora_vl.backbones.blip.dual_encoder import BlipMatcher, retrieval_backbone
from aurora_vl.errors import UserError
from aurora_vl.objectives.retrieval import RetrievalTask
from aurora_vl.tuner.layer import AuroraLinear
from benchmarks import rerank, train_step
from benchmarks.measuring import Row, bfloat16_pays, rows_of, time_in_turn
from benchmarks.memory import peaks_of
from benchmarks.operations import GIGA, counting
from benchmarks.reference_implementation import pad
from benchmarks.setup import BASE, Setup

JOB = "changes"
OURS = train_step.OURS
BFLOAT16 = train_step.BFLOAT16
PADDED = "captions of 35 tokens"
KEYS_PER_PAIR = "keys and values for every pair"
EVERY_TOKEN = "every token in the last layers"
OWN_MEMORY = "updates in memory of their own"
EVERY_PARAMETER = "every parameter averaged"
COMPILED = "layers compiled"
CONTENDERS = (
    *(OURS, PADDED, KEYS_PER_PAIR, EVERY_TOKEN, OWN_MEMORY, EVERY_PARAMETER),
    BFLOAT16,
)
_KEPT, _AGAIN = "states kept", "encoded again"
_MOMENTUM_STEP = 0.005
_VARIANTS = 64  # of a layer: with and without gradients, with one source or two, first token alone
_VISION_FIRST_ONLY, _TEXT_FIRST_ONLY = 1, 2  # its place among the arguments of a layer


@dataclass(frozen=True)
class _States:
    """Pictures' states (B, n, d) in the place of their keys."""

    rows: Tensor

    def select(self, rows: Tensor) -> _States:
        return _States(self.rows[rows])


class _KeysPerPair(BlipMatcher):
    """Each pair computes its picture's keys and values."""

    def keys(self, states: Tensor) -> Any:
        return _States(states)

    def fuse(self, texts: TextInputs, runs: Sequence[tuple[int, Any]]) -> Tensor:
        each = [kept.rows.repeat_interleave(count // len(kept.rows), 0) for count, kept in runs]
        states = torch.cat(each)
        return super().fuse(texts, [(len(states), super().keys(states))])


def build(name: str, setup: Setup) -> RetrievalTask:
    """A contender's task; some are undone in `batch_of` or `contender`."""
    task = train_step.build(OURS, setup)
    assert isinstance(task, RetrievalTask)
    if name == KEYS_PER_PAIR:
        task.encoder.matcher = _KeysPerPair(retrieval_backbone(task.model))
    elif name == EVERY_TOKEN:
        for layer, place in _layers(task):
            layer.register_forward_pre_hook(_without_first_only(place))
    elif name == OWN_MEMORY:
        for module in task.modules():
            if isinstance(module, AuroraLinear):  # somebody else may see the map's output
                module.base_layer.register_forward_hook(lambda *_: None)
    elif name == COMPILED:
        torch._dynamo.config.recompile_limit = _VARIANTS
        for layer, _ in _layers(task):
            layer.compile()
    return task


def batch_of(name: str, setup: Setup) -> dict[str, Any]:
    """A contender's batch."""
    batch = setup.pairs()
    if name == PADDED:
        texts = batch["texts"]
        ids, mask = pad(texts["input_ids"], texts["attention_mask"])
        batch["texts"] = {"input_ids": ids, "attention_mask": mask}
    return batch


def contender(name: str, setup: Setup) -> Callable[[], object]:
    """One training step of a contender, to be called again and again."""
    task = build(name, setup)
    step = train_step.stepping(task, batch_of(name, setup), half=name == BFLOAT16)
    if name != EVERY_PARAMETER:
        return step
    averaged = copy.deepcopy(task.model)

    def with_second_model() -> None:
        step()
        with torch.no_grad():
            for average, live in zip(averaged.parameters(), task.model.parameters(), strict=True):
                average.lerp_(live, _MOMENTUM_STEP)

    return with_second_model


def measured(device: torch.device) -> tuple[str, ...]:
    """The contenders that are measured on a device: all, or all but bfloat16."""
    return tuple(name for name in CONTENDERS if name != BFLOAT16 or bfloat16_pays(device))


def steps(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Training steps."""
    names = measured(setup.torch_device)
    steps = {name: contender(name, setup) for name in names}
    seconds = time_in_turn(steps, repeats, setup.torch_device)
    countable = setup.backbone == BASE
    return rows_of(
        JOB,
        seconds,
        reference=OURS,
        peak_mb=peaks_of(JOB, names, setup)[0] if memory else None,
        gflop={name: _counted(name, setup) for name in names} if countable else None,
        precision={BFLOAT16: "bfloat16"},
    )


def compiled(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """A training step with every layer under torch.compile, captions always of one length.

    Its peak would be the compiler's and is not measured.

    Raises:
        UserError: there is no C++ compiler, which a CPU needs.
    """
    if setup.torch_device.type == "cpu" and shutil.which("c++") is None:
        raise UserError("torch.compile needs a C++ compiler (c++) here; install one, such as g++.")
    both = {name: contender(name, setup) for name in (OURS, COMPILED)}
    seconds = time_in_turn(both, repeats, setup.torch_device)
    return rows_of(f"{JOB} by compiling", seconds, reference=OURS)


def reranking(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """A picture encoded and met with its candidates, its states kept or computed once more."""
    if setup.backbone == BASE:
        setup = replace(setup, image_size=rerank.SIZES[0])
    match = rerank.contenders(setup, rerank.CANDIDATES, reference_candidates=1)[rerank.OURS]
    backbone = retrieval_backbone(setup.with_aurora(start=False))
    pixels = setup.pairs(1)["media"]["pixel_values"]

    def form(times: int) -> Callable[[], object]:
        @torch.no_grad()
        def run() -> Tensor:
            for _ in range(times):
                backbone.encode_image(pixels)
            return match()

        return run

    forms = {_KEPT: form(1), _AGAIN: form(2)}
    gflop = {}
    for name, run in forms.items():
        with counting() as counter:
            run()
        gflop[name] = counter.get_total_flops() / GIGA
    seconds = time_in_turn(forms, repeats, setup.torch_device)
    return rows_of(f"{JOB} of re-ranking", seconds, reference=_KEPT, gflop=gflop)


PARTS: dict[str, Callable[..., list[Row]]] = {
    "steps": steps,
    "reranking": reranking,
    "compiled": compiled,
}


def _layers(task: RetrievalTask) -> Iterator[tuple[nn.Module, int]]:
    """The layers of both encoders, and where they are told that the first token is enough."""
    backbone = retrieval_backbone(task.model)
    for layer in backbone.vision_model.encoder.layers:
        yield layer, _VISION_FIRST_ONLY
    for layer in backbone.text_encoder.encoder.layer:
        yield layer, _TEXT_FIRST_ONLY


def _without_first_only(place: int) -> Callable[..., Any]:
    def hook(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*arguments[:place], False, *arguments[place + 1 :])

    return hook


def _counted(name: str, setup: Setup) -> float:
    with torch.device("meta"):
        task = build(name, replace(setup, device="meta"))
    return train_step.counted(task, batch_of(name, setup))
