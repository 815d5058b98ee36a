"""Two-stage evaluation against the plain loop over all pairs of media and texts."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_use import by_part, retriever_of
from PIL import Image
from tiny_blip import COLOURS, SIZE, THINGS, batch, tiny_model, tiny_tokenizer
from torch import nn

from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder, retrieval_backbone
from aurora_vl.backbones.blip.preparation import IMAGE_MEAN, IMAGE_STD
from aurora_vl.backbones.blip.text import clean_caption
from aurora_vl.data.images import open_picture
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.transforms import ImageTransform, to_model_input
from aurora_vl.errors import UserError
from aurora_vl.evaluation.retrieval import RetrievalResult, evaluate_retrieval
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask

CAPTIONS = [2, 0, 1, 3, 1, 0, 2]  # of each medium; some have none
TOKENIZER = tiny_tokenizer()


@pytest.fixture
def records(tmp_path: Path) -> list[CaptionedMedia]:
    """Noisy pictures with captions of different lengths."""
    rng = np.random.default_rng(0)
    made = []
    for number, captions in enumerate(CAPTIONS):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (20, 18 + number, 3), dtype=np.uint8)).save(path)
        texts = tuple(
            " ".join(["A", *rng.choice(COLOURS + THINGS, 1 + int(rng.integers(9)))]) + "."
            for _ in range(captions)
        )
        made.append(CaptionedMedia(path.name, path, "image", texts))
    return made


@pytest.fixture(params=["full", "aurora"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return tiny_model(request.param)


@dataclass(frozen=True)
class Plain:
    """Cosines and matching logits of every pair, (M, T), each computed by itself."""

    cosine: np.ndarray
    logit: np.ndarray

    def order(self, direction: int) -> np.ndarray:
        """Candidates of each query by cosine, best first."""
        cosine = self.cosine if direction == 0 else self.cosine.T
        return np.argsort(-cosine, axis=1, kind="stable")


@torch.no_grad()
def plain_loop(model: nn.Module, records: list[CaptionedMedia], max_words: int = 30) -> Plain:
    backbone = retrieval_backbone(model)
    texts = [clean_caption(text, max_words) for record in records for text in record.captions]
    cosine = np.zeros((len(records), len(texts)))
    logit = np.zeros_like(cosine)
    for row, record in enumerate(records):
        pixels = ImageTransform(SIZE).image(open_picture(record.path))
        image = to_model_input(pixels[None], IMAGE_MEAN, IMAGE_STD, dtype=torch.float64)
        for column, text in enumerate(texts):
            tokens = TOKENIZER([text], return_tensors="pt")
            ids, mask = tokens["input_ids"], tokens["attention_mask"]
            out = backbone(image, ids, mask)
            cosine[row, column] = out.image_features[0].dot(out.text_features[0])
            cross = backbone.cross_keys(out.image_states)
            logit[row, column] = backbone.match(ids, mask, cross)[0, 1]
    return Plain(cosine, logit)


def score(
    model: nn.Module,
    records: list[CaptionedMedia],
    *,
    batch_size: int = 64,
    max_words: int = 30,
    **settings: Any,
) -> RetrievalResult:
    retriever = retriever_of(model, TOKENIZER, batch_size, max_words=max_words)
    return evaluate_retrieval(retriever, records, **{"rerank": 3, **settings})


@pytest.mark.parametrize("kind", ["itm", "itm+itc"])
@pytest.mark.parametrize("rerank", [1, 3, 100])
def test_equal_to_the_plain_loop(
    model: nn.Module, records: list[CaptionedMedia], rerank: int, kind: Any
) -> None:
    """Scores of each query's own candidates, all others below them in the order of features."""
    plain = plain_loop(model, records)
    result = score(model, records, rerank=rerank, score=kind, batch_size=3)
    pairs = plain.logit + (plain.cosine if kind == "itm+itc" else 0.0)
    for direction, found in enumerate((result.media_to_text, result.text_to_media)):
        expected = pairs if direction == 0 else pairs.T
        assert found.shape == expected.shape
        for query, order in enumerate(plain.order(direction)):
            own, others = order[:rerank], order[rerank:]
            scores = found[query].numpy()
            np.testing.assert_allclose(scores[own], expected[query][own], rtol=0, atol=1e-9)
            assert (scores[others] < scores[own].min()).all()
            assert (np.diff(scores[others]) < 0).all()


def test_features_alone(model: nn.Module, records: list[CaptionedMedia]) -> None:
    plain = plain_loop(model, records)
    result = score(model, records, rerank=0)
    for direction, found in enumerate((result.media_to_text, result.text_to_media)):
        order = found.argsort(1, descending=True).numpy()
        assert (order == plain.order(direction)).all()


def test_ranks_and_metrics(model: nn.Module, records: list[CaptionedMedia]) -> None:
    """Media without captions ask nothing, and are candidates all the same."""
    plain = plain_loop(model, records)
    result = score(model, records, rerank=100)
    pairs = plain.logit + plain.cosine
    owners = np.repeat(np.arange(len(CAPTIONS)), CAPTIONS)
    by_text = [1 + int((pairs[:, t] > pairs[owner, t]).sum()) for t, owner in enumerate(owners)]
    assert result.text_ranks.tolist() == by_text
    by_media = []
    for row, count in enumerate(CAPTIONS):
        if count:
            right = owners == row
            by_media.append(1 + int((pairs[row, ~right] > pairs[row, right].max()).sum()))
    assert result.media_ranks.tolist() == by_media
    assert result.metrics["t2i_r1"] == pytest.approx(100 * np.mean(np.array(by_text) == 1))
    assert result.metrics["i2t_mnr"] == pytest.approx(np.mean(by_media))


def test_a_medium_without_captions_can_win(records: list[CaptionedMedia]) -> None:
    """The picture of no caption, given to a caption's owner too, ties with it and counts ahead."""
    model = tiny_model()
    twin = CaptionedMedia("twin.png", records[0].path, "image", ())
    result = score(model, [*records, twin], rerank=100)
    assert result.text_to_media.shape[1] == len(records) + 1
    torch.testing.assert_close(result.text_to_media[:, -1], result.text_to_media[:, 0])
    assert result.text_ranks[:2].min() >= 2


def test_deterministic(model: nn.Module, records: list[CaptionedMedia]) -> None:
    one, two = score(model, records), score(model, records)
    assert torch.equal(one.media_to_text, two.media_to_text)
    assert torch.equal(one.text_to_media, two.text_to_media)
    assert one.metrics == two.metrics


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_independent_of_the_batch_size(
    model: nn.Module, records: list[CaptionedMedia], batch_size: int
) -> None:
    one, other = score(model, records, batch_size=4), score(model, records, batch_size=batch_size)
    torch.testing.assert_close(one.media_to_text, other.media_to_text, rtol=0, atol=1e-10)
    torch.testing.assert_close(one.text_to_media, other.text_to_media, rtol=0, atol=1e-10)


def test_the_order_of_records_changes_nothing(records: list[CaptionedMedia]) -> None:
    model = tiny_model()
    one, other = score(model, records), score(model, records[::-1])
    torch.testing.assert_close(one.metrics, other.metrics)


def test_each_pair_is_matched_once(
    records: list[CaptionedMedia], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are computed once for a medium, however many texts of either direction ask for it."""
    model = tiny_model()
    backbone = retrieval_backbone(model)
    matched: list[int] = []
    keys: list[int] = []
    match, cross_keys = backbone.match, backbone.cross_keys
    monkeypatch.setattr(
        backbone, "match", lambda ids, *rest: (matched.append(len(ids)), match(ids, *rest))[1]
    )
    monkeypatch.setattr(
        backbone, "cross_keys", lambda states: (keys.append(len(states)), cross_keys(states))[1]
    )
    plain = plain_loop(model, records)
    wanted = {(row, t) for row, best in enumerate(plain.order(0)) for t in best[:2]}
    wanted |= {(row, t) for t, best in enumerate(plain.order(1)) for row in best[:2]}
    matched.clear()
    keys.clear()
    score(model, records, rerank=2)
    assert sum(matched) == len(wanted)
    assert keys == [1] * len({row for row, _ in wanted})


def test_each_medium_is_encoded_once(
    records: list[CaptionedMedia], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    backbone = retrieval_backbone(model)
    seen: list[int] = []
    encode = backbone.encode_image
    monkeypatch.setattr(
        backbone,
        "encode_image",
        lambda pixels, **how: (seen.append(len(pixels)), encode(pixels, **how))[1],
    )
    score(model, records, rerank=2)
    assert sum(seen) == len(records)


def test_states_in_half_precision_score_nearly_the_same(records: list[CaptionedMedia]) -> None:
    model = tiny_model()
    whole, half = (score(model, records, rerank=100, half_states=on) for on in (False, True))
    torch.testing.assert_close(half.media_to_text, whole.media_to_text, rtol=0, atol=0.05)
    assert not torch.equal(half.media_to_text, whole.media_to_text)


def test_states_leave_nothing_on_the_disk(
    records: list[CaptionedMedia], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the process is killed: the file has no name while it is used."""
    folder = tmp_path / "states"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    needed: list[Path] = []
    used = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: needed.append(Path(path)) or used)
    names: list[str] = []
    score(tiny_model(), records, progress=lambda *_: names.extend(os.listdir(folder)))
    assert names == os.listdir(folder) == []
    assert needed == [folder]


def test_a_full_disk_is_told_before_it_is_full(
    records: list[CaptionedMedia], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    with pytest.raises(UserError, match=r"0\.0 GB free, but .* TMPDIR .* evaluation\.half_states"):
        score(tiny_model(), records)


def test_training_goes_on_afterwards(model: nn.Module, records: list[CaptionedMedia]) -> None:
    """No tensor of the evaluation's inference mode stays in the model."""
    task = RetrievalTask(BlipDualEncoder(model), RetrievalSettings(queue=2)).train()
    score(model, records)
    task(**by_part(batch([0, 1, 2])))["loss"].backward()
    gradients = [p.grad for p in task.parameters() if p.requires_grad]
    assert gradients
    assert all(grad is not None and grad.isfinite().all() for grad in gradients)


def test_captions_are_cut(records: list[CaptionedMedia]) -> None:
    model = tiny_model()
    plain = plain_loop(model, records, max_words=2)
    result = score(model, records, rerank=100, max_words=2, score="itm")
    np.testing.assert_allclose(result.media_to_text, plain.logit, rtol=0, atol=1e-9)


def test_progress(records: list[CaptionedMedia]) -> None:
    seen: list[tuple[int, int]] = []
    score(
        tiny_model(), records, rerank=100, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(done, len(records)) for done in range(1, len(records) + 1)]


def test_matched_candidates_stay_above_the_others(records: list[CaptionedMedia]) -> None:
    """However low a matching head scores them."""
    model = tiny_model()
    with torch.no_grad():
        model.itm_head.bias[1] = -3.0e4
    result = score(model, records, rerank=2)
    order = plain_loop(model, records).order(0)
    assert (
        result.media_to_text.topk(2).indices.sort().values.numpy() == np.sort(order[:, :2])
    ).all()


def test_no_captions_at_all(records: list[CaptionedMedia]) -> None:
    with pytest.raises(UserError, match="the scored split has no captions"):
        score(tiny_model(), [records[1], records[5]])


@pytest.mark.parametrize("module", ["vision_proj", "text_proj", "itm_head"])
def test_a_diverged_model_is_named(records: list[CaptionedMedia], module: str) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_submodule(module).weight.fill_(torch.nan)
    with pytest.raises(UserError, match="the scores are not finite; the adapter or its training"):
        score(model, records)
