"""The backbone computes what transformers' BLIP computes, wherever that is right."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import BlipConfig, BlipForImageTextRetrieval
from transformers import BlipForQuestionAnswering as TheirQuestionAnswering
from transformers.models.blip.modeling_blip import BlipVisionModel as TheirVision
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel
from transformers.models.blip.modeling_blip_text import BlipTextModel as TheirText

from aurora_vl.backbones.blip.modeling import (
    BlipForQuestionAnswering,
    BlipForRetrieval,
    BlipTextDecoder,
    BlipTextModel,
    BlipVisionModel,
)

Fill = Callable[..., nn.Module]


assert_close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


def twin(ours: nn.Module, theirs: nn.Module, fill: Fill) -> None:
    """Random weights into theirs and the same into ours, by equal names."""
    fill(theirs)
    ours.double().eval().load_state_dict(theirs.state_dict(), strict=True)


@torch.no_grad()
def test_vision(config: BlipConfig, fill: Fill, pixels: Tensor) -> None:
    theirs, ours = TheirVision(config.vision_config), BlipVisionModel(config.vision_config)
    twin(ours, theirs, fill)
    assert_close(ours(pixels), theirs(pixels).last_hidden_state)


@torch.no_grad()
def test_text_alone(config: BlipConfig, fill: Fill, ids: Tensor, mask: Tensor) -> None:
    theirs = TheirText(config.text_config, add_pooling_layer=False)
    ours = BlipTextModel(config.text_config)
    twin(ours, theirs, fill)
    assert_close(ours(ids), theirs(ids).last_hidden_state)
    assert_close(ours(ids, mask), theirs(ids, attention_mask=mask).last_hidden_state)


@torch.no_grad()
def test_text_with_cross_attention(
    config: BlipConfig, fill: Fill, ids: Tensor, mask: Tensor
) -> None:
    theirs = TheirText(config.text_config, add_pooling_layer=False)
    ours = BlipTextModel(config.text_config)
    twin(ours, theirs, fill)
    states = torch.randn(3, 7, 24, dtype=torch.float64)
    expected = theirs(ids, attention_mask=mask, encoder_hidden_states=states).last_hidden_state
    assert_close(ours(ids, mask, ours.cross_keys(states)), expected)
    assert_close(ours(ids, mask, ours.cross_keys(states, torch.ones(3, 7))), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.bool, torch.long])
def test_cross_mask_equals_cutting(
    config: BlipConfig, fill: Fill, ids: Tensor, mask: Tensor, kind: torch.dtype
) -> None:
    """transformers ignores this mask, so each row is compared with its states cut."""
    theirs = TheirText(config.text_config, add_pooling_layer=False)
    ours = BlipTextModel(config.text_config)
    twin(ours, theirs, fill)
    states = torch.randn(3, 7, 24, dtype=torch.float64)
    lengths = [7, 2, 4]
    cross_mask = (torch.arange(7) < torch.tensor(lengths)[:, None]).to(kind)
    out = ours(ids, mask, ours.cross_keys(states, cross_mask))
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        expected = theirs(
            ids[one], attention_mask=mask[one], encoder_hidden_states=states[one, :length]
        )
        assert_close(out[one], expected.last_hidden_state)


@torch.no_grad()
def test_decoder_logits(even_config: BlipConfig, fill: Fill, ids: Tensor, mask: Tensor) -> None:
    text_config = even_config.text_config
    theirs, ours = BlipTextLMHeadModel(text_config), BlipTextDecoder(text_config)
    twin(ours, theirs, fill)
    states = torch.randn(3, 5, 16, dtype=torch.float64)
    cross = ours.bert.cross_keys(states)
    for padding in (None, mask):
        expected = theirs(ids, attention_mask=padding, encoder_hidden_states=states).logits
        assert_close(ours(ids, padding, cross).logits, expected)


@torch.no_grad()
def test_retrieval_scores(
    config: BlipConfig, fill: Fill, pixels: Tensor, ids: Tensor, mask: Tensor
) -> None:
    theirs, ours = fill(BlipForImageTextRetrieval(config)), BlipForRetrieval(config)
    assert set(ours.state_dict()) - {"temperature.weight"} == set(theirs.state_dict())
    ours.double().eval().load_state_dict(theirs.state_dict(), strict=False)
    out = ours(pixels, ids, mask)
    cosines = theirs(ids, pixels, use_itm_head=False, attention_mask=mask).itm_score
    assert_close(out.image_features @ out.text_features.T, cosines)
    fused = ids.clone()
    fused[:, 0] = config.text_config.enc_token_id
    logits = theirs(fused, pixels, use_itm_head=True, attention_mask=mask).itm_score
    assert_close(ours.match(ids, mask, ours.cross_keys(out.image_states)), logits)
    assert ids[0, 0] == 2  # the caller's ids are left as they are


@torch.no_grad()
def test_question_answering(
    even_config: BlipConfig, fill: Fill, pixels: Tensor, ids: Tensor
) -> None:
    theirs, ours = TheirQuestionAnswering(even_config), BlipForQuestionAnswering(even_config)
    twin(ours, theirs, fill)
    question = ids.clone()
    question[:, 0] = even_config.text_config.enc_token_id
    image = theirs.vision_model(pixels).last_hidden_state
    states = theirs.text_encoder(question, encoder_hidden_states=image).last_hidden_state
    expected = theirs.text_decoder(ids[:, :4], encoder_hidden_states=states).logits
    assert_close(ours(pixels, ids, None, ids[:, :4]), expected)
    assert_close(ours.encode_question(image, ids), states)
    answers = theirs.generate(question, pixels, max_new_tokens=6, num_beams=2, do_sample=False)
    assert ours.generate(pixels, ids, max_new_tokens=6, num_beams=2).equal(answers)


@pytest.mark.parametrize("task", ["retrieval", "vqa"])
def test_folders_both_ways(even_config: BlipConfig, fill: Fill, tmp_path: Path, task: str) -> None:
    classes = {
        "retrieval": (BlipForImageTextRetrieval, BlipForRetrieval),
        "vqa": (TheirQuestionAnswering, BlipForQuestionAnswering),
    }
    theirs_class, ours_class = classes[task]
    theirs = fill(theirs_class(even_config))
    theirs.save_pretrained(tmp_path / "theirs")
    ours, report = ours_class.from_pretrained(
        tmp_path / "theirs", output_loading_info=True, dtype=torch.float64
    )
    assert not any(report.values()), report
    ours.save_pretrained(tmp_path / "ours")
    again, report = theirs_class.from_pretrained(
        tmp_path / "ours", output_loading_info=True, dtype=torch.float64
    )
    assert not any(report.values()), report
    for name, tensor in again.state_dict().items():
        assert tensor.equal(theirs.state_dict()[name]), name
        assert tensor.equal(ours.state_dict()[name]), name


def test_decoder_reads_text_width(config: BlipConfig) -> None:
    """Vision wider than text (ViT-L beside BERT-base): the decoder looks at text states."""
    model = BlipForQuestionAnswering(config)
    encoder, decoder = model.text_encoder.encoder, model.text_decoder.bert.encoder
    assert encoder.layer[0].crossattention.self.key.in_features == 24
    assert decoder.layer[0].crossattention.self.key.in_features == 16
    assert config.text_config.encoder_hidden_size == 24


def test_starting_values(config: BlipConfig) -> None:
    config.contrastive_temperature = 0.05
    config.initializer_range = 0.1
    model = BlipForRetrieval(config)
    assert model.temperature.weight.shape == ()
    assert model.temperature.weight.item() == pytest.approx(0.05)
    positions = model.vision_model.embeddings.position_embedding
    assert 0.02 < positions.std().item() < 0.2
    assert model.vision_model.encoder.layers[0].mlp.fc1.weight.std().item() > 0.02
    assert (model.itm_head.bias == 0).all()
