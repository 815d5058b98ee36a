"""Layers that are computed again in the backward pass change nothing but memory."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from in_use import by_part
from tiny_blip import batch, tiny_model

from aurora_vl.backbones.base import Part
from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.backbones.blip.modeling import BlipTextLayer, BlipVisionLayer
from aurora_vl.backbones.gradient_checkpointing import recompute_layers
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask


def step(
    method: str, parts: tuple[Part, ...]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Counter[type]]:
    """Losses, gradients and how often each kind of layer ran, of a training step with dropout."""
    model = tiny_model(method, dropout=0.3)
    recompute_layers(model, parts)
    runs: Counter[type] = Counter()
    for kind, inner in ((BlipVisionLayer, "mlp"), (BlipTextLayer, "intermediate")):
        for layer in (m for m in model.modules() if isinstance(m, kind)):
            getattr(layer, inner).register_forward_pre_hook(
                lambda *_, kind=kind: runs.update([kind])
            )
    settings = RetrievalSettings(queue=8, ramp_steps=0)
    task = RetrievalTask(BlipDualEncoder(model), settings).train()
    torch.manual_seed(3)
    losses = task(**by_part(batch([0, 1, 2, 0])))
    losses["loss"].backward()
    gradients = {n: p.grad for n, p in task.named_parameters() if p.grad is not None}
    return {n: value.detach() for n, value in losses.items()}, gradients, runs


@pytest.mark.parametrize("method", ["full", "aurora"])
@pytest.mark.parametrize("parts", [("vision",), ("text",), ("vision", "text")])
def test_losses_and_gradients_are_the_same(method: str, parts: tuple[Part, ...]) -> None:
    kept, again = step(method, ()), step(method, parts)
    assert kept[0] == again[0]
    assert kept[1].keys() == again[1].keys()
    for name, gradient in kept[1].items():
        torch.testing.assert_close(again[1][name], gradient, rtol=1e-12, atol=1e-12)
    for kind, part in ((BlipVisionLayer, "vision"), (BlipTextLayer, "text")):
        assert (again[2][kind] > kept[2][kind]) is (part in parts)


def test_nothing_is_computed_again_outside_training() -> None:
    model = tiny_model("aurora")
    recompute_layers(model, ("vision", "text"))
    images = batch([0, 1])["pixel_values"]
    expected = tiny_model("aurora").get_base_model().encode_image(images)[1]
    assert torch.equal(model.get_base_model().encode_image(images)[1], expected)


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="no part 'audio'"):
        recompute_layers(tiny_model(), ("audio",))  # type: ignore[arg-type]
