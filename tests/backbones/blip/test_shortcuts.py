"""What is left out or stored otherwise for speed changes no result."""

from __future__ import annotations

import pytest
import torch
from tiny_blip import batch, fill, tiny_config, tiny_model
from torch import nn

from aurora_vl.backbones.blip.dual_encoder import retrieval_backbone
from aurora_vl.backbones.blip.modeling import BlipForRetrieval, CrossKeys, TextRun


@pytest.fixture(params=["full", "aurora"])
def model(request: pytest.FixtureRequest) -> BlipForRetrieval:
    return retrieval_backbone(tiny_model(request.param))


def test_features_alone_are_the_features(model: BlipForRetrieval) -> None:
    pixels = batch([0, 1, 2])["pixel_values"]
    videos = torch.stack([pixels, pixels.flip(0)], 1)  # (3, 2, 3, S, S)
    for media in (pixels, videos):
        states, features = model.encode_image(media)
        few, same = model.encode_image(media, features_only=True)
        assert few.shape[1] == media.shape[1] if media.ndim == 5 else few.shape[1] == 1
        assert torch.allclose(same, features, atol=1e-12)
        assert torch.allclose(few[:, 0], states[:, 0], atol=1e-12)


@pytest.mark.parametrize("seen", [False, True])
def test_the_first_token_alone_is_the_first_token(model: BlipForRetrieval, seen: bool) -> None:
    made = batch([0, 1, 2])
    cross = model.cross_keys(model.encode_image(made["pixel_values"])[0]) if seen else None
    texts = made["input_ids"], made["attention_mask"]
    every = model.text_encoder(*texts, cross)
    first = model.text_encoder(*texts, cross, first_only=True)
    assert first.shape[1] == 1
    assert torch.allclose(first[:, 0], every[:, 0], atol=1e-12)


def test_runs_of_texts_read_their_own_keys(model: BlipForRetrieval) -> None:
    made = batch([0, 1, 2, 0])
    keys = model.cross_keys(model.encode_image(made["pixel_values"][:2])[0])
    texts = made["input_ids"], made["attention_mask"]
    together = model.fuse(*texts, keys.select(torch.tensor([0, 0, 1, 1])))
    one, other = keys.select(torch.tensor([0])), keys.select(torch.tensor([1, 1]))
    runs = model.fuse(*texts, (TextRun(2, one), TextRun(2, other)))
    assert torch.allclose(runs, together, atol=1e-12)
    with pytest.raises(ValueError, match="no batch of 4"):
        model.fuse(*texts, (TextRun(2, one), TextRun(1, one)))
    with pytest.raises(ValueError, match="cannot share 2 rows"):
        model.fuse(*texts, (TextRun(3, other), TextRun(1, one)))


def test_a_frozen_maps_output_is_not_changed_behind_a_hook() -> None:
    model = tiny_model("aurora")
    layer = retrieval_backbone(model).vision_model.encoder.layers[0].mlp.fc1
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    expected = layer(x)
    seen = []
    layer.base_layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    assert torch.allclose(layer(x), expected, atol=1e-12)
    assert torch.equal(seen[0], nn.functional.linear(x, *layer.base_layer.parameters()))


def test_gated_slots_need_every_token() -> None:
    from peft import get_peft_model
    from tiny_blip import HEADS

    from aurora_vl.tuner.config import AuroraConfig

    config = AuroraConfig(r=4, gqt="gated", modules_to_save=HEADS)
    gated = get_peft_model(BlipForRetrieval(tiny_config()).double(), config).double().eval()
    fill(gated)
    model, made = retrieval_backbone(gated), batch([0, 1, 2])
    cross: CrossKeys = model.cross_keys(model.encode_image(made["pixel_values"])[0])
    texts = made["input_ids"], made["attention_mask"]
    assert torch.allclose(
        model.text_encoder(*texts, cross, first_only=True)[:, 0],
        model.text_encoder(*texts, cross)[:, 0],
        atol=1e-12,
    )
