"""The reference implementation is the published computation: losses, operations, queue."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.reference_implementation import ReferenceRetrieval
from benchmarks.setup import Setup
from benchmarks.train_step import (
    CONTENDERS,
    build,
    contender,
    counted_operations,
    loss_differences,
)

MINI = Setup(backbone="mini", queue=64)
BASE = Setup()


def backbone_operations(name: str, setup: Setup, *, tokens: int | None = None) -> float:
    """Those without what the adapter adds, which grows in proportion to its rank."""
    doubled = replace(setup, rank=2 * setup.rank)
    once = counted_operations(name, setup, tokens=tokens)
    return 2 * once - counted_operations(name, doubled, tokens=tokens)


@pytest.mark.parametrize("momentum", ["", " without momentum"])
def test_both_forms_have_the_same_losses_and_gradients(momentum: str) -> None:
    reference = build(f"reference{momentum}", MINI, start=False)
    ours = build(f"aurora{momentum}", MINI, start=False)
    batch = MINI.pairs()
    losses = [task(**batch) for task in (reference, ours)]
    for name in ("loss_itc", "loss_itm"):
        assert torch.allclose(losses[0][name], losses[1][name], atol=1e-5, rtol=0)
    assert losses[0]["loss_itc"] > 0.1
    gradients = []
    for task, loss in zip((reference, ours), losses):
        loss["loss"].backward()
        gradients.append({n: p.grad for n, p in task.model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        if gradient is not None:
            scale = gradient.abs().max().clamp(min=1e-6)
            assert ((gradient - gradients[1][name]).abs().max() / scale) < 1e-3, name


def test_the_difference_of_losses_is_told() -> None:
    found = loss_differences(MINI)
    assert set(found) == {"aurora", "aurora without momentum"}
    assert max(found.values()) < 1e-5


def test_the_reference_implementation_has_a_second_model_and_keeps_a_queue() -> None:
    task = build("reference", MINI)
    assert isinstance(task, ReferenceRetrieval)
    assert task.averaged is not None

    def total(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert total(task.averaged) == total(task.model)
    batch = MINI.pairs()
    before = task.index_queue.clone()
    task(**batch)
    assert task.index_queue[: MINI.batch].equal(batch["media_index"])
    assert task.index_queue[MINI.batch :].equal(before[MINI.batch :])
    assert torch.allclose(task.image_queue.norm(dim=0), torch.ones(MINI.queue), atol=1e-5)


def test_the_reference_step_counts_what_the_published_one_does() -> None:
    # 801 GFLOP at batch 4, 224 pixels, 35 tokens, counted by hand, the adapter not counted
    assert backbone_operations("reference", BASE) == pytest.approx(801, rel=0.01)


def test_our_step_counts_two_thirds_of_it() -> None:
    reference = counted_operations("reference", BASE, tokens=12)
    ours = counted_operations("aurora", BASE, tokens=12)
    assert ours / reference < 0.68
    assert counted_operations("aurora without momentum", BASE, tokens=12) / reference < 0.5
    assert backbone_operations("aurora", BASE, tokens=12) < 550


def test_our_step_counts_no_more_than_lora() -> None:
    assert counted_operations("aurora", BASE) <= counted_operations("lora", BASE) * 1.0001


def test_operations_grow_with_the_batch_and_the_references_not_with_captions() -> None:
    small = replace(MINI, image_size=None)
    batches = [replace(small, batch=count) for count in (4, 8)]
    once, twice = (counted_operations("aurora", size, tokens=12) for size in batches)
    assert twice == pytest.approx(2 * once, rel=0.02)
    assert counted_operations("reference", small, tokens=5) == counted_operations(
        "reference", small
    )


def test_a_step_on_videos_asks_no_tensor_for_its_value() -> None:
    """On shapes alone, reading a value is an error, as it would wait on a GPU."""
    pictures = counted_operations("aurora", replace(MINI, batch=2))
    assert counted_operations("aurora", replace(MINI, batch=2, frames=4)) > 2 * pictures


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_trains_what_it_says(name: str) -> None:
    step = contender(name, MINI)
    first, second = (float(step()["loss_itm"].detach()) for _ in range(2))
    assert first != second
