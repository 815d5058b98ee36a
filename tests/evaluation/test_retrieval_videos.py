"""Two-stage retrieval of videos against the plain loop over pairs, frame-aware or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_use import retriever_of
from tiny_blip import COLOURS, SIZE, THINGS, tiny_model, tiny_tokenizer
from torch import nn
from videos import write_frames

from aurora_vl.backbones.blip import dual_encoder
from aurora_vl.backbones.blip.dual_encoder import retrieval_backbone
from aurora_vl.backbones.blip.preparation import IMAGE_MEAN, IMAGE_STD
from aurora_vl.backbones.blip.text import clean_caption
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.transforms import ImageTransform, to_model_input
from aurora_vl.data.video import read_frames
from aurora_vl.errors import UserError
from aurora_vl.evaluation.retrieval import RetrievalResult, evaluate_retrieval

FRAMES = 3
CAPTIONS = [2, 0, 1, 2, 1]
TOKENIZER = tiny_tokenizer()


@pytest.fixture
def records(tmp_path: Path) -> list[CaptionedMedia]:
    """Videos whose frames differ a lot, with captions of different lengths."""
    rng = np.random.default_rng(0)
    made = []
    for number, captions in enumerate(CAPTIONS):
        pictures = rng.integers(0, 256, (FRAMES, 2, 2, 3), dtype=np.uint8)
        pictures = pictures.repeat(8, 1).repeat(8, 2)
        path = write_frames(tmp_path / f"{number}.mp4", list(pictures))
        texts = tuple(
            " ".join(["a", *rng.choice(COLOURS + THINGS, 1 + int(rng.integers(9)))])
            for _ in range(captions)
        )
        made.append(CaptionedMedia(path.name, path, "video", texts))
    return made


@torch.no_grad()
def plain_loop(
    model: nn.Module, records: list[CaptionedMedia], aware: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and matching logits of every pair, (M, T), each frame and pair by itself."""
    backbone = retrieval_backbone(model)
    texts = [clean_caption(text) for record in records for text in record.captions]
    cosine = np.zeros((len(records), len(texts)))
    logit = np.zeros_like(cosine)
    for row, record in enumerate(records):
        pictures = [ImageTransform(SIZE).image(p) for p in read_frames(record.path, FRAMES)]
        states = [
            backbone.vision_model(
                to_model_input(p[None], IMAGE_MEAN, IMAGE_STD, dtype=torch.float64)
            )
            for p in pictures
        ]
        project = backbone.vision_proj
        mean = torch.stack([s[0, 0] for s in states]).mean(0)
        video = nn.functional.normalize(project(mean), dim=-1)
        for column, text in enumerate(texts):
            tokens = TOKENIZER([text], return_tensors="pt")
            ids, mask = tokens["input_ids"], tokens["attention_mask"]
            feature = backbone.encode_text(ids, mask)[1][0]
            cosine[row, column] = feature @ video
            like = torch.stack(
                [feature @ nn.functional.normalize(project(s[0, 0]), dim=-1) for s in states]
            )
            weights = FRAMES * (like / 4).softmax(0)
            scale = torch.ones(1, FRAMES, states[0].shape[1], dtype=torch.float64)
            if aware:
                scale[0, :, 1:] = weights[:, None]
            keys = backbone.cross_keys(torch.cat(states, 1)).scaled(scale.flatten(1))
            logit[row, column] = backbone.match(ids, mask, keys)[0, 1]
    return cosine, logit


def score(
    model: nn.Module,
    records: list[CaptionedMedia],
    *,
    batch_size: int = 64,
    frame_aware: bool = True,
    **settings: Any,
) -> RetrievalResult:
    used = {"frames": FRAMES, "frame_aware": frame_aware}
    retriever = retriever_of(model, TOKENIZER, batch_size, **used)
    return evaluate_retrieval(retriever, records, **{"rerank": 100, **settings})


@pytest.mark.parametrize("method", ["full", "aurora"])
@pytest.mark.parametrize("aware", [True, False])
def test_equal_to_the_plain_loop(records: list[CaptionedMedia], method: str, aware: bool) -> None:
    model = tiny_model(method)
    cosine, logit = plain_loop(model, records, aware)
    result = score(model, records, frame_aware=aware)
    np.testing.assert_allclose(result.media_to_text, logit + cosine, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.text_to_media, (logit + cosine).T, rtol=0, atol=1e-9)


def test_frame_awareness_changes_matching_alone(records: list[CaptionedMedia]) -> None:
    model = tiny_model()
    aware, plain = (score(model, records, frame_aware=on, score="itm") for on in (True, False))
    assert not torch.allclose(aware.media_to_text, plain.media_to_text, rtol=0, atol=1e-4)
    one, other = (score(model, records, frame_aware=on, rerank=0) for on in (True, False))
    assert torch.equal(one.media_to_text, other.media_to_text)


@pytest.mark.parametrize("texts_at_once", [1, 2])
def test_scaled_keys_come_in_bounded_chunks(
    records: list[CaptionedMedia], monkeypatch: pytest.MonkeyPatch, texts_at_once: int
) -> None:
    """The same scores, however few texts a video's scaled keys are held for at once."""
    model = tiny_model()
    backbone = retrieval_backbone(model)
    whole = score(model, records)
    keys = backbone.cross_keys(torch.zeros(1, FRAMES * 5, 24, dtype=torch.float64)).keys
    limit = sum(key.nbytes for key in keys) * texts_at_once
    monkeypatch.setattr(dual_encoder, "SCALED_BYTES", {"cpu": limit})
    held: list[int] = []
    match = backbone.match

    def noting(ids: torch.Tensor, mask: torch.Tensor, cross: Any) -> torch.Tensor:
        held.append(sum(key.nbytes for key in cross.keys))
        return match(ids, mask, cross)

    monkeypatch.setattr(backbone, "match", noting)
    parts = score(model, records)
    torch.testing.assert_close(parts.media_to_text, whole.media_to_text, rtol=0, atol=1e-10)
    assert max(held) <= limit
    assert len(held) > len(records)


def test_metrics_have_video_names(records: list[CaptionedMedia]) -> None:
    metrics = score(tiny_model(), records).metrics
    assert {"v2t_r1", "t2v_r10", "r_mean", "t2v_mdr", "v2t_mnr"} <= set(metrics)
    assert not any("i2t" in name for name in metrics)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_independent_of_the_batch_size(records: list[CaptionedMedia], batch_size: int) -> None:
    model = tiny_model()
    one, other = score(model, records, batch_size=2), score(model, records, batch_size=batch_size)
    torch.testing.assert_close(one.media_to_text, other.media_to_text, rtol=0, atol=1e-10)


def test_the_batch_size_counts_frames(
    records: list[CaptionedMedia], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    backbone = retrieval_backbone(model)
    seen: list[int] = []
    encode = backbone.encode_image
    monkeypatch.setattr(
        backbone,
        "encode_image",
        lambda x, **how: (seen.append(x.shape[0] * x.shape[1]), encode(x, **how))[1],
    )
    score(model, records, batch_size=7)
    assert max(seen) == 2 * FRAMES


def test_pictures_beside_videos_are_refused(records: list[CaptionedMedia]) -> None:
    with pytest.raises(UserError, match="the scored split mixes pictures and videos"):
        score(tiny_model(), [*records, replace(records[0], kind="image")])


def test_a_damaged_video_stops_the_evaluation(records: list[CaptionedMedia]) -> None:
    records[1].path.write_bytes(records[1].path.read_bytes()[:900])
    with pytest.raises(UserError, match=r"1\.mp4"):
        score(tiny_model(), records)
