"""A tiny CLIP and SigLIP learn 64 pairs by heart."""

from __future__ import annotations

import pytest
import torch
from tiny_models import TWO_TOWERS, processor, two_tower

from aurora_vl.backbones.base import PreparationSettings
from aurora_vl.backbones.clip.loading import with_logit_scale
from aurora_vl.backbones.families import family_of_model
from aurora_vl.data.synthetic.grammar import lexicon
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask

PAIRS = 64


@pytest.mark.slow
@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_full_tuning_overfits_64_pairs(kind: str) -> None:
    torch.manual_seed(0)
    model = with_logit_scale(two_tower(kind, width=48))
    family = family_of_model(model)
    encoder = family.dual_encoder(model)
    prepare = family.preprocessor(model, processor(kind), PreparationSettings())
    blank = prepare.blank()
    media = {n: v.expand(PAIRS, *v.shape[1:]).clone() for n, v in blank.items()}
    media["pixel_values"].normal_()
    words = lexicon()
    captions = [f"{words[n % 40]} {words[40 + n // 2]} {words[n]}" for n in range(PAIRS)]
    texts = prepare.texts(captions, "caption")
    task = RetrievalTask(encoder, RetrievalSettings(queue=0, momentum=None, alpha=0.0)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(150):
        loss = task(media, texts, torch.arange(PAIRS))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        seen, told = encoder.encode_pairs(media, texts)
    cosines = seen.features @ told.features.T
    assert torch.equal(cosines.argmax(1), torch.arange(PAIRS))
    assert torch.equal(cosines.argmax(0), torch.arange(PAIRS))
