"""The losses of a retrieval batch against plain loops over pairs, written from the formulas."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from in_use import by_part
from tiny_blip import batch, tiny_model
from torch import Tensor, nn

from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder, retrieval_backbone
from aurora_vl.backbones.blip.modeling import BlipForRetrieval
from aurora_vl.errors import UserError
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask

METHODS = ("full", "aurora")
INDEX = [0, 1, 1, 2, 3]  # one picture comes twice


def make_task(method: str = "full", **settings: Any) -> RetrievalTask:
    settings = {"queue": 7, "momentum": 0.9, "ramp_steps": 3, **settings}
    encoder = BlipDualEncoder(tiny_model(method))
    return RetrievalTask(encoder, RetrievalSettings(**settings)).train()


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@dataclass
class Plain:
    """The same task in plain Python: a second model for the averages, lists for the queue."""

    task: RetrievalTask
    averages: dict[str, Tensor] = field(default_factory=dict)
    queue: list[tuple[Tensor, Tensor, int]] = field(default_factory=list)
    step: int = 0

    def __post_init__(self) -> None:
        size = self.task.settings.queue
        empty = self.task.image_queue.new_zeros(self.task.image_queue.shape[1])
        self.queue = [(empty, empty, -100)] * (size * self.task.settings.count_empty_slots)
        self.averages = {n: p.detach().clone() for n, p in trained(self.task.model).items()}

    @property
    def backbone(self) -> BlipForRetrieval:
        return retrieval_backbone(self.task.model)

    def losses(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """ITC and ITM of one training batch."""
        settings = self.task.settings
        live = self.task.model(given["pixel_values"], given["input_ids"], given["attention_mask"])
        decay = settings.momentum
        if decay is None:
            image_m, text_m = live.image_features.detach(), live.text_features.detach()
        else:
            if settings.warm_momentum:
                decay = min(decay, (1 + self.step) / (10 + self.step))
            for name, parameter in trained(self.task.model).items():
                self.averages[name] = decay * self.averages[name] + (1 - decay) * parameter.detach()
            image_m, text_m = self.momentum_features(given)
        index = given["media_index"].tolist()
        alpha = settings.alpha * min(1.0, self.step / settings.ramp_steps)
        itc = self.contrastive(live, image_m, text_m, index, alpha)
        itm = self.matching(live, given, index)
        self.step += 1
        if settings.queue:
            self.queue = [*self.queue, *zip(image_m, text_m, index)][-settings.queue :]
        return itc, itm

    def momentum_features(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        second = copy.deepcopy(self.task.model)
        with torch.no_grad():
            for name, parameter in trained(second).items():
                parameter.copy_(self.averages[name])
            out = second(given["pixel_values"], given["input_ids"], given["attention_mask"])
        return out.image_features, out.text_features

    def contrastive(
        self, live: Any, image_m: Tensor, text_m: Tensor, index: list[int], alpha: float
    ) -> Tensor:
        temperature = self.backbone.temperature.weight
        images = [*image_m, *(image for image, _, _ in self.queue)]
        texts = [*text_m, *(text for _, text, _ in self.queue)]
        owners = [*index, *(owner for _, _, owner in self.queue)]
        total = torch.zeros((), dtype=torch.float64)
        directions = (
            (live.image_features, image_m, texts),
            (live.text_features, text_m, images),
        )
        for features, features_m, columns in directions:
            for row, owner in enumerate(index):
                logits = torch.stack([features[row].dot(c) / temperature for c in columns])
                soft = [(features_m[row].dot(c) / temperature).exp().item() for c in columns]
                positives = owners.count(owner)
                for column, other in enumerate(owners):
                    hard = (other == owner) / positives
                    target = alpha * soft[column] / sum(soft) + (1 - alpha) * hard
                    total = total - target * (logits[column] - logits.logsumexp(0))
        return total / (2 * len(index))

    def negatives(
        self, live: Any, index: list[int], uniforms: Tensor | None
    ) -> Iterator[tuple[int, int] | None]:
        """(negative image, negative text) of each pair, None where there is none."""
        temperature = self.backbone.temperature.weight.item()
        for row, owner in enumerate(index):
            others = [column for column, other in enumerate(index) if other != owner]
            if not others:
                yield None
                continue
            picked = []
            own = (live.text_features[row], live.image_features[row])
            for side, column_features in enumerate((live.image_features, live.text_features)):
                similar = [own[side].dot(column_features[c]).item() for c in others]
                weights = [math.exp(value / temperature) for value in similar]
                if uniforms is None:
                    picked.append(others[weights.index(max(weights))])
                    continue
                threshold = float(uniforms[row, side]) * sum(weights)
                reached = 0.0
                for column, weight in zip(others, weights):
                    reached += weight
                    if reached > threshold:
                        picked.append(column)
                        break
            yield picked[0], picked[1]

    def matching(self, live: Any, given: dict[str, Tensor], index: list[int]) -> Tensor:
        count = len(index)
        negatives = list(self.negatives(live, index, given.get("uniforms")))
        pairs = [(row, row, 1) for row in range(count)]
        pairs += [(n[0], row, 0) for row, n in enumerate(negatives) if n is not None]
        pairs += [(row, n[1], 0) for row, n in enumerate(negatives) if n is not None]
        total = torch.zeros((), dtype=torch.float64)
        for image, text, label in pairs:
            logits = self.backbone.itm_head(self.fused(live, given, image, text, label))
            total = total - (logits[label] - logits.logsumexp(0))
        return total / len(pairs)

    def fused(self, live: Any, given: dict[str, Tensor], image: int, text: int, label: int) -> Any:
        backbone = self.backbone
        length = int(given["attention_mask"][text].sum())  # no padding
        ids = given["input_ids"][text : text + 1, :length]
        cross = backbone.cross_keys(live.image_states[image : image + 1])
        cls = backbone.fuse(ids, torch.ones_like(ids), cross)[0]
        texts = live.text_cls
        kind = self.task.settings.ice
        if kind == "symmetric" or (kind == "released" and label == 1):
            return cls + 0.1 * sum(texts) / len(texts)
        if kind == "adaptive":
            weights = [(cls.dot(other) / math.sqrt(len(cls))).exp() for other in texts]
            context = sum(w * other for w, other in zip(weights, texts)) / sum(weights)
            return cls + 0.1 * context
        return cls


def assert_close(one: Any, two: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)


def gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    parameters = trained(model)
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()))))


def descend(model: nn.Module, gradient: dict[str, Tensor], rate: float = 0.02) -> None:
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter -= rate * gradient[name]


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("full", {}),
        ("aurora", {}),
        ("full", {"queue": 0, "ramp_steps": 1}),
        ("aurora", {"queue": 3, "momentum": None}),
        ("aurora", {"queue": 20, "count_empty_slots": True, "warm_momentum": False}),
    ],
)
def test_losses_and_gradients_equal_the_plain_loops(method: str, settings: dict[str, Any]) -> None:
    """Several steps, so that the averages lag, alpha grows and the queue wraps around."""
    task = make_task(method, **settings)
    plain = Plain(task)
    for step in range(3):
        given = batch(INDEX, seed=step)
        itc, itm = plain.losses(given)
        expected = gradients(itc + itm, task.model)
        out = task(**by_part(given))
        assert_close(out["loss_itc"], itc)
        assert_close(out["loss_itm"], itm)
        assert_close(out["loss"], itc + itm)
        found = gradients(out["loss"], task.model)
        assert_close(found, expected, 1e-9)
        descend(task.model, found)
    assert int(task.steps) == 3


@pytest.mark.parametrize("kind", ["off", "released", "symmetric", "adaptive"])
@pytest.mark.parametrize("method", METHODS)
def test_context_enhancement(method: str, kind: str) -> None:
    task = make_task(method, ice=kind)
    given = batch(INDEX, seed=3)
    itc, itm = Plain(task).losses(given)
    expected = gradients(itc + itm, task.model)
    out = task(**by_part(given))
    assert_close(out["loss_itm"], itm)
    assert_close(gradients(out["loss"], task.model), expected, 1e-9)


@pytest.mark.parametrize("videos", [False, True], ids=["pictures", "videos"])
@pytest.mark.parametrize("ice", ["released", "adaptive"])
def test_captions_of_a_medium_together(ice: str, videos: bool) -> None:
    """A medium encoded once for its two captions: losses and gradients of the pairs one by one."""
    apart_task, task = make_task("aurora", ice=ice), make_task("aurora", ice=ice)
    for step in range(2):
        apart = batch([0, 0, 1, 1, 2, 2], seed=step)
        if videos:
            pixels = apart["pixel_values"]
            apart["pixel_values"] = torch.stack([pixels, -pixels, pixels.flip(-1)], 1)
        together = apart | {"pixel_values": apart["pixel_values"][::2]}
        expected, found = apart_task(**by_part(apart)), task(**by_part(together))
        assert_close(found, expected)
        descent = gradients(expected["loss"], apart_task.model)
        assert_close(gradients(found["loss"], task.model), descent, 1e-9)
        descend(apart_task.model, descent)
        descend(task.model, descent)
    assert_close(dict(task.state_dict()), dict(apart_task.state_dict()), 1e-9)


def test_context_enhancement_is_for_training_alone() -> None:
    given = batch(INDEX)
    losses = [
        float(make_task(ice=kind).eval()(**by_part(given))["loss_itm"].detach())
        for kind in ("off", "released", "symmetric", "adaptive")
    ]
    assert losses == [losses[0]] * 4
    trained_loss = make_task(ice="adaptive")(**by_part(given))["loss_itm"]
    assert abs(float(trained_loss.detach()) - losses[0]) > 1e-6


def test_without_uniforms_the_hardest_negatives_are_taken() -> None:
    task = make_task()
    given = batch(INDEX, uniforms=False)
    _, itm = Plain(task).losses(given)
    assert_close(task(**by_part(given))["loss_itm"], itm)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("index", [[0, 0, 0], [4]])
def test_a_batch_of_one_picture_has_no_negatives(method: str, index: list[int]) -> None:
    """The matching loss is that of the true pairs alone; nothing becomes NaN."""
    task = make_task(method)
    given = batch(index)
    itc, itm = Plain(task).losses(given)
    out = task(**by_part(given))
    assert_close(out["loss_itc"], itc)
    assert_close(out["loss_itm"], itm)
    out["loss"].backward()
    for name, parameter in trained(task.model).items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_alpha_grows_over_the_ramp() -> None:
    """At step 0 the momentum copy has no say; from the ramp's end on it has alpha's."""
    given = batch(INDEX)
    without = make_task(alpha=0.0, momentum=0.0)
    with_alpha = make_task(alpha=0.4, momentum=0.0, ramp_steps=2)
    difference = []
    for _ in range(4):
        one, other = with_alpha(**by_part(given)), without(**by_part(given))
        difference.append(float((one["loss_itc"] - other["loss_itc"]).abs().detach()))
    assert difference[0] == 0.0
    assert difference[1] > 1e-6
    assert difference[2] > difference[1]


def test_gradients_reach_a_trained_temperature() -> None:
    model = tiny_model()
    model.temperature.requires_grad_(True)
    task = RetrievalTask(BlipDualEncoder(model), RetrievalSettings(queue=4)).train()
    itc, itm = Plain(task).losses(batch(INDEX))
    (expected,) = torch.autograd.grad(itc + itm, [model.temperature.weight])
    task(**by_part(batch(INDEX)))["loss"].backward()
    assert_close(model.temperature.weight.grad, expected, 1e-9)


def test_targets_carry_no_gradient() -> None:
    """With live features as targets, the contrastive gradient is that of constant targets."""
    task = make_task(momentum=None, alpha=1.0, ramp_steps=0)
    given = batch(INDEX)
    task(**by_part(given))["loss_itc"].backward()
    assert all(not b.requires_grad for b in task.buffers())
    assert task.image_queue.abs().sum() > 0


def test_an_unknown_enhancement_is_refused() -> None:
    with pytest.raises(UserError, match="ice 'more' is unknown; choose one of off, released"):
        RetrievalSettings(ice="more")  # type: ignore[arg-type]


def test_another_model_is_refused() -> None:
    with pytest.raises(TypeError, match="Linear is no retrieval backbone"):
        BlipDualEncoder(nn.Linear(1, 1))
