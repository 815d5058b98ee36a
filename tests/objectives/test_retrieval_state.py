"""What a retrieval task keeps between batches: queue, moving averages, counters."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from in_use import by_part
from tiny_blip import batch, tiny_model
from torch import Tensor, nn

from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.objectives.momentum import MomentumCopy
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask

STATE = ("image_queue", "text_queue", "index_queue", "pointer", "steps")


def make_task(method: str = "full", **settings: Any) -> RetrievalTask:
    encoder = BlipDualEncoder(tiny_model(method))
    return RetrievalTask(encoder, RetrievalSettings(**settings)).train()


def oldest_first(task: RetrievalTask) -> tuple[list[int], Tensor, Tensor]:
    """The filled slots, read from the pointer on."""
    order = torch.arange(task.settings.queue).roll(-int(task.pointer))
    order = order[task.index_queue[order] >= 0]
    return task.index_queue[order].tolist(), task.image_queue[order], task.text_queue[order]


@pytest.mark.parametrize("size", [1, 3, 4, 6, 11])
def test_the_queue_holds_the_latest_entries(size: int) -> None:
    """Smaller than the batch, equal, no multiple of it, larger; the batches' sizes vary."""
    task = make_task(queue=size, momentum=0.5)
    seen: list[tuple[int, Tensor, Tensor]] = []
    for step, index in enumerate(([0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10], [11, 0])):
        given = batch(index, seed=step)
        task(**by_part(given))
        assert task.momentum is not None
        out = task.momentum.call(
            task.model, given["pixel_values"], given["input_ids"], given["attention_mask"]
        )
        seen += zip(index, out.image_features, out.text_features)
        kept = seen[-size:]
        owners, images, texts = oldest_first(task)
        assert owners == [owner for owner, _, _ in kept]
        torch.testing.assert_close(images, torch.stack([image for _, image, _ in kept]))
        torch.testing.assert_close(texts, torch.stack([text for _, _, text in kept]))


def test_no_queue() -> None:
    task = make_task(queue=0)
    for step in range(2):
        assert task(**by_part(batch([0, 1, 2], seed=step)))["loss"].isfinite()
    assert task.image_queue.shape == (0, 8)
    assert int(task.pointer) == 0


def test_the_same_picture_in_the_queue_is_a_positive() -> None:
    """What else stands there is a negative: renaming one entry changes the loss."""
    losses = []
    for renamed in (False, True):
        task = make_task(queue=4, alpha=0.0)
        task(**by_part(batch([0, 1, 2, 3])))
        if renamed:
            task.index_queue[0] = 9
        losses.append(float(task(**by_part(batch([0, 1, 2, 3], seed=1)))["loss_itc"].detach()))
    assert abs(losses[0] - losses[1]) > 1e-6


@pytest.mark.parametrize("method", ["full", "aurora"])
def test_evaluation_changes_nothing(method: str) -> None:
    task = make_task(method, queue=5, momentum=0.9)
    task(**by_part(batch([0, 1, 2])))
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter *= 1.1  # so that an update of the averages would be seen
    task.eval()
    before = copy.deepcopy(task.state_dict())
    with torch.no_grad():
        losses = [float(task(**by_part(batch([3, 4], seed=1)))["loss"]) for _ in range(2)]
    assert losses[0] == losses[1]
    after = task.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_one_update_of_the_average_each_training_forward() -> None:
    task = make_task(queue=0, momentum=0.75, warm_momentum=False)
    assert task.momentum is not None
    start = {name: value.clone() for name, value in task.momentum.values().items()}
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter += 1.0
    for step in (1, 2, 3):
        task(**by_part(batch([0, 1])))
        assert int(task.steps) == step
        for name, value in task.momentum.values().items():
            expected = start[name] + (1.0 - 0.75**step)
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


def test_the_average_leaves_its_start_behind_in_a_short_run() -> None:
    model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    warm, constant = MomentumCopy(model, 0.995), MomentumCopy(model, 0.995, warm=False)
    torch.nn.init.ones_(model.weight)
    expected = 0.0
    for step in range(300):
        warm.update(model)
        constant.update(model)
        expected += (1 - min(0.995, (1 + step) / (10 + step))) * (1 - expected)
        assert abs(warm.values()["weight"].item() - expected) < 1e-12
    assert expected > 0.999
    assert constant.values()["weight"].item() < 0.8


@pytest.mark.parametrize("method", ["full", "aurora"])
def test_the_average_covers_exactly_what_is_trained(method: str) -> None:
    model = tiny_model(method)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert MomentumCopy(model, 0.9).values().keys() == trained
    live = sorted(trained)[:2]
    assert MomentumCopy(model, 0.9, live).values().keys() == trained - set(live)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen  # at least the temperature


@pytest.mark.parametrize("method", ["full", "aurora"])
def test_a_call_uses_the_averages_and_leaves_the_live_model(method: str) -> None:
    model = tiny_model(method)
    average = MomentumCopy(model, 0.9)
    generator = torch.Generator().manual_seed(5)
    for value in average.values().values():
        value += 0.2 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    before = {
        name: (p, p.detach().clone(), p.requires_grad) for name, p in model.named_parameters()
    }
    given = batch([0, 1, 2])
    inputs = given["pixel_values"], given["input_ids"], given["attention_mask"]
    found = average.call(model, *inputs)
    for name, parameter in model.named_parameters():
        same, value, flag = before[name]
        assert parameter is same
        assert torch.equal(parameter, value)
        assert parameter.requires_grad is flag
        assert parameter.grad is None

    second = copy.deepcopy(model)
    second.load_state_dict({**second.state_dict(), **average.values()})
    with torch.no_grad():
        expected, live = second(*inputs), model(*inputs)
    torch.testing.assert_close(found[:4], expected[:4], rtol=1e-12, atol=1e-12)
    assert not found.image_features.requires_grad
    assert not torch.allclose(found.image_features, live.image_features)
    assert not torch.allclose(found.text_features, live.text_features)


def test_what_the_average_leaves_out_is_read_live() -> None:
    model = tiny_model()
    names = ["vision_proj.weight", "vision_proj.bias"]
    average = MomentumCopy(model, 0.9, names)
    given = batch([0, 1])
    inputs = given["pixel_values"], given["input_ids"], given["attention_mask"]
    with torch.no_grad():
        model.vision_proj.weight += 1.0
        model.text_proj.weight += 1.0
        live = model(*inputs)
    found = average.call(model, *inputs)
    torch.testing.assert_close(found.image_features, live.image_features)
    assert not torch.allclose(found.text_features, live.text_features)


def test_the_live_model_is_saved_without_the_average() -> None:
    model = tiny_model()
    before = set(model.state_dict())
    task = RetrievalTask(BlipDualEncoder(model), RetrievalSettings(queue=2))
    task.train()(**by_part(batch([0, 1])))
    assert set(model.state_dict()) == before
    assert {*STATE} <= set(task.state_dict())
    assert isinstance(task.model, nn.Module)
