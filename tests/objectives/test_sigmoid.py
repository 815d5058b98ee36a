"""The sigmoid loss against the formula and transformers' own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_models import two_tower
from torch import Tensor

from aurora_vl.backbones.clip.dual_encoder import ClipDualEncoder
from aurora_vl.backbones.clip.loading import with_logit_scale
from aurora_vl.objectives.matching import NO_ITEM
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask
from aurora_vl.objectives.sigmoid import sigmoid_loss


@pytest.fixture
def encoder() -> ClipDualEncoder:
    return ClipDualEncoder(with_logit_scale(two_tower("siglip")).double())


def features(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    drawn = torch.randn(2, count, 32, dtype=torch.float64, generator=generator)
    media, texts = F.normalize(drawn, dim=-1)
    return media.requires_grad_(), texts.requires_grad_()


def expected(
    encoder: ClipDualEncoder, media: Tensor, texts: Tensor, matches: Tensor
) -> tuple[Tensor, ...]:
    """The loss over a whole matrix, and its gradients."""
    scale, bias = encoder.backbone.logit_scale, encoder.backbone.logit_bias
    logits = media @ texts.T * scale.exp() + bias
    loss = -F.logsigmoid(torch.where(matches, logits, -logits)).sum() / len(texts)
    return loss, *torch.autograd.grad(loss, [media, texts, scale, bias])


def test_pairs_of_one_medium_match(encoder: ClipDualEncoder) -> None:
    index = torch.tensor([0, 1, 1, 2, 0])
    media, texts = features(5)
    loss = sigmoid_loss(encoder, media, texts, index, index)
    parameters = [encoder.backbone.logit_scale, encoder.backbone.logit_bias]
    gradients = torch.autograd.grad(loss, [media, texts, *parameters])
    matches = index[:, None] == index[None]
    for found, wanted in zip(
        (loss, *gradients), expected(encoder, media, texts, matches), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_what_does_not_count_is_left_out(encoder: ClipDualEncoder) -> None:
    index = torch.tensor([3, 4, NO_ITEM, 5, NO_ITEM])
    media, texts = features(5)
    counted = torch.tensor([0, 1, 3])
    loss = sigmoid_loss(encoder, media, texts, index, index)
    wanted, *_ = expected(encoder, media[counted], texts[counted], torch.eye(3, dtype=torch.bool))
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=1e-9)


def test_it_equals_transformers_loss_and_keeps_no_queue(encoder: ClipDualEncoder) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(6, 3, 32, 32, dtype=torch.float64, generator=generator)
    ids = torch.randint(4, 40, (6, 32), generator=generator)
    task = RetrievalTask(encoder, RetrievalSettings(queue=16, momentum=0.9)).train()
    found = task(
        {"pixel_values": pixels},
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        torch.arange(6),
    )
    theirs = encoder.backbone(input_ids=ids, pixel_values=pixels, return_loss=True).loss
    torch.testing.assert_close(found["loss"], theirs, rtol=1e-9, atol=1e-9)
    assert task.momentum is None
    assert len(task.image_queue) == 0


@pytest.mark.parametrize("trained", [True, False])
def test_scale_and_bias_are_trained_or_left(encoder: ClipDualEncoder, trained: bool) -> None:
    scale = encoder.logit_scale()
    for parameter in scale:
        parameter.requires_grad_(trained)
    media, texts = features(4)
    sigmoid_loss(encoder, media, texts, torch.arange(4), torch.arange(4)).backward()
    assert [parameter.grad is not None for parameter in scale] == [trained, trained]
