"""What is trained, saved and merged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from peft import LoraConfig, get_peft_model
from PIL import Image
from tiny_models import POSITIONS, TWO_TOWERS, processor, two_tower
from torch import nn

import aurora_vl
from aurora_vl import AuroraConfig, Retriever
from aurora_vl.backbones.clip.loading import with_logit_scale
from aurora_vl.backbones.families import family_of_model
from aurora_vl.backbones.gradient_checkpointing import recompute_layers
from aurora_vl.inference.export import export_merged
from aurora_vl.inference.settings import AdapterSettings, save_tuned
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask
from aurora_vl.tuner.targets import DEFAULT_TARGETS


def tuned(kind: str, *, temperature: bool = True) -> nn.Module:
    """A tiny model with an adapter and its heads, whose starting values all let gradients pass."""
    backbone = with_logit_scale(two_tower(kind))
    heads = family_of_model(backbone).trained_heads(
        "retrieval", text_projection=True, temperature=temperature
    )
    model = get_peft_model(backbone, AuroraConfig(r=4, modules_to_save=heads))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "aurora" in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def pairs(kind: str, pictures: list[Image.Image]) -> dict[str, Any]:
    """Four pairs."""
    made = processor(kind)
    ids = torch.randint(4, 40, (4, POSITIONS[kind]), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = 3
    media = made.image_processor(pictures[:4], return_tensors="pt")
    return {
        "media": dict(media),
        "texts": {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        "media_index": torch.arange(4),
    }


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_all_that_is_trained_has_a_gradient_and_nothing_else_changes(
    kind: str, pictures: list[Image.Image]
) -> None:
    model = tuned(kind)
    task = RetrievalTask(
        family_of_model(model).dual_encoder(model), RetrievalSettings(queue=8, ramp_steps=0)
    ).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = task(**pairs(kind, pictures))
    assert losses.keys() == {"loss", "loss_itc"}
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    trained = [p for p in model.parameters() if p.requires_grad]
    torch.optim.SGD(trained, 1.0).step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("aurora" in name or "modules_to_save" in name for name in changed)


@pytest.mark.parametrize("kind", TWO_TOWERS)
@pytest.mark.parametrize("method", ["aurora", "all-linear"])
def test_the_packed_pooling_head_is_left_out(kind: str, method: str) -> None:
    targets = "all-linear" if method == "all-linear" else None
    model = get_peft_model(two_tower(kind), AuroraConfig(r=4, target_modules=targets))
    adapted = {name for name, module in model.named_modules() if hasattr(module, "aurora_P")}
    assert any("vision_model.encoder.layers.1.mlp.fc2" in name for name in adapted)
    assert any("text_model.encoder.layers.0.self_attn.q_proj" in name for name in adapted)
    assert not any("head.attention" in name for name in adapted)


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_other_methods_leave_the_packed_pooling_head_out_too(
    kind: str, pictures: list[Image.Image]
) -> None:
    backbone = with_logit_scale(two_tower(kind))
    model = get_peft_model(backbone, LoraConfig(r=2, target_modules=DEFAULT_TARGETS[kind]))
    encoder = family_of_model(model).dual_encoder(model)
    RetrievalTask(encoder, RetrievalSettings(queue=0))(**pairs(kind, pictures))["loss"].backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) > 20
    assert [name for name, gradient in trained.items() if gradient is None] == []


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_saved_equals_loaded_and_merged_equals_unmerged(
    kind: str, folders: dict[str, Path], pictures: list[Image.Image], tmp_path: Path
) -> None:
    model, adapter = tuned(kind), tmp_path / "adapter"
    encoder = family_of_model(model).dual_encoder(model)
    with torch.no_grad():
        for parameter in encoder.logit_scale():
            parameter.add_(0.5)
    settings = AdapterSettings(task="retrieval", backbone=str(folders[kind]))
    save_tuned(model, adapter, settings, None)
    loaded = Retriever.load(adapter=adapter, device="cpu")
    batch = pairs(kind, pictures)["media"]
    with torch.no_grad():
        expected = encoder.encode_media(batch).features.numpy()
        scale = [value.item() for value in encoder.logit_scale()]
    assert_allclose(loaded.encode_images(pictures[:4]), expected, atol=1e-6)
    again = loaded.tuned.family.dual_encoder(loaded.tuned.model).logit_scale()
    assert [value.item() for value in again] == pytest.approx(scale)
    plain = Retriever.load(folders[kind], device="cpu").encode_images(pictures[:4])
    assert abs(plain - expected).max() > 1e-3
    summary = export_merged(adapter, tmp_path / "merged")
    assert summary.their_class == type(two_tower(kind)).__name__
    merged = Retriever.load(tmp_path / "merged", device="cpu")
    assert_allclose(merged.encode_images(pictures[:4]), expected, atol=1e-5)
    stored = merged.tuned.family.dual_encoder(merged.tuned.model).logit_scale()
    assert [value.item() for value in stored] == pytest.approx(scale)


def test_a_loaded_model_is_transformers_own(folder: Path) -> None:
    model = aurora_vl.load(folder)
    assert type(model) is type(two_tower(folder.name))
    assert model.state_dict().keys() == two_tower(folder.name).state_dict().keys()
    twin = copy.deepcopy(model)
    assert twin.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        twin.logit_scale.add_(1.0)
    assert twin.temperature()[0].item() == pytest.approx(model.temperature()[0].item() + 1.0)


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_recomputed_layers_give_the_same_gradients(kind: str, pictures: list[Image.Image]) -> None:
    found = []
    for parts in ((), ("vision", "text")):
        model = tuned(kind)
        recompute_layers(model, parts)
        encoder = family_of_model(model).dual_encoder(model)
        settings = RetrievalSettings(queue=0, momentum=None, alpha=0.0)
        RetrievalTask(encoder, settings).train()(**pairs(kind, pictures))["loss"].backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
        assert len(layers) == (4 if parts else 0)
    torch.testing.assert_close(found[0], found[1])
