"""Encoded media and texts are what transformers' own classes give."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from tiny_models import POSITIONS, TWO_TOWERS, processor, two_tower
from transformers import AutoModel
from videos import numbered, write_frames

import aurora_vl
from aurora_vl import Retriever
from aurora_vl.backbones.base import PreparationSettings, TextInputs
from aurora_vl.backbones.families import family_of_model
from aurora_vl.data.augment import Augment
from aurora_vl.data.video import iter_frames

CPU = torch.device("cpu")


def theirs(kind: str, pictures: list[Image.Image], texts: list[str]) -> dict[str, torch.Tensor]:
    """A batch as transformers' processor makes it."""
    fixed = kind.startswith("siglip")
    own = processor(kind)
    told = own.tokenizer(
        texts,
        padding="max_length" if fixed else True,
        max_length=POSITIONS[kind],
        truncation=True,
        return_tensors="pt",
    )
    if fixed:  # as its processor, which gives no mask
        del told["attention_mask"]
    return {**told, **own.image_processor(pictures, return_tensors="pt")}


def prepared(
    kind: str, pictures: list[Image.Image], **settings: Any
) -> tuple[Any, dict[str, torch.Tensor]]:
    model = two_tower(kind)
    family = family_of_model(model)
    made = family.preprocessor(model, processor(kind), PreparationSettings(**settings))
    return made, made.collate([made.image(picture) for picture in pictures])


def test_features_equal_transformers(
    folder: Path, pictures: list[Image.Image], texts: list[str]
) -> None:
    retriever = Retriever.load(folder, device="cpu")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder)(**theirs(folder.name, pictures, texts))
    found = retriever.encode_images(pictures)
    assert_allclose(found, expected.image_embeds.numpy(), atol=1e-6)
    assert_allclose(retriever.encode_texts(texts), expected.text_embeds.numpy(), atol=1e-6)
    assert not retriever.has_matcher
    assert retriever.width == found.shape[1]


def test_pairs_and_their_logits_equal_transformers(
    folder: Path, pictures: list[Image.Image], texts: list[str]
) -> None:
    model = aurora_vl.load(folder)
    batch = theirs(folder.name, pictures, texts)
    encoder = family_of_model(model).dual_encoder(model)
    media = {name: value for name, value in batch.items() if name not in ("input_ids",)}
    mask = media.pop("attention_mask", torch.ones_like(batch["input_ids"]))
    inputs = TextInputs(input_ids=batch["input_ids"], attention_mask=mask)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder)(**batch).logits_per_image
        seen, told = encoder.encode_pairs(media, inputs)
        found = encoder.logits(seen.features, told.features, encoder.logit_scale())
        apart = encoder.encode_media(media), encoder.encode_texts(inputs)
    assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
    assert_allclose(apart[0].features.numpy(), seen.features.numpy(), atol=1e-6)
    assert_allclose(apart[1].features.numpy(), told.features.numpy(), atol=1e-6)


def test_a_batch_equals_one_by_one(
    folder: Path, pictures: list[Image.Image], texts: list[str]
) -> None:
    retriever = Retriever.load(folder, device="cpu")
    single = [retriever.encode_images(picture)[0] for picture in pictures]
    assert_allclose(retriever.encode_images(pictures), np.stack(single), atol=1e-6)
    single = [retriever.encode_texts(text)[0] for text in texts]
    assert_allclose(retriever.encode_texts(texts), np.stack(single), atol=1e-6)


def test_a_video_is_the_mean_of_its_frames(folder: Path, tmp_path: Path) -> None:
    path = write_frames(tmp_path / "v.mp4", [numbered(16 * n) for n in range(10)])
    retriever = Retriever.load(folder, device="cpu")
    frames = retriever.encode_images(list(iter_frames(path, 8)))
    mean = frames.mean(0)
    found = retriever.encode_videos([path, path])
    assert_allclose(found, np.stack([mean / np.linalg.norm(mean)] * 2), atol=1e-6)


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_media_equal_the_image_processor(kind: str, pictures: list[Image.Image]) -> None:
    made, batch = prepared(kind, pictures)
    assert batch["pixel_values"].dtype == torch.uint8  # what decoding workers hand over
    found = made.finish(batch, CPU, torch.float32)
    expected = processor(kind).image_processor(pictures, return_tensors="pt")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_allclose(found[name].numpy(), value.numpy(), atol=1e-6)
    blank = made.finish(made.blank(), CPU, torch.float32)
    assert blank.keys() == found.keys()
    assert {n: v.shape[1:] for n, v in blank.items()} == {n: v.shape[1:] for n, v in found.items()}


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_crops_are_drawn_for_the_item(kind: str, pictures: list[Image.Image]) -> None:
    made, whole = prepared(kind, pictures[:1], crop_scale=(0.3, 0.6))
    cut = [made.image(pictures[0], np.random.default_rng(seed)) for seed in (1, 1, 2)]
    first, again, other = (item["pixel_values"] for item in cut)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, whole["pixel_values"][0])
    frames = made.video([pictures[0], pictures[0], pictures[0]], np.random.default_rng(1))
    assert torch.equal(frames["pixel_values"], torch.stack([first] * 3))


@pytest.mark.parametrize("kind", ["clip", "siglip2"])
def test_augmentation_changes_the_picture_that_the_processor_left(kind: str) -> None:
    rng = np.random.default_rng(3)
    picture = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))  # fits exactly
    made, batch = prepared(kind, [picture, picture])
    seeds, augment = torch.tensor([5, 6]), Augment("safe")
    found = made.finish(batch, CPU, torch.float32, augment, seeds)["pixel_values"]
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255.0
    changed = augment(torch.stack([pixels] * 2), seeds)
    expected = processor(kind).image_processor(
        list(changed.numpy()), do_rescale=False, do_resize=False, return_tensors="pt"
    )
    assert_allclose(found.numpy(), expected["pixel_values"].numpy(), atol=1e-5)
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_texts_are_padded_as_the_model_was_trained(kind: str, texts: list[str]) -> None:
    made, _ = prepared(kind, [Image.new("RGB", (32, 32))])
    found = made.texts(texts, "caption")
    length = POSITIONS[kind] if kind.startswith("siglip") else 10
    assert found["input_ids"].shape == found["attention_mask"].shape == (4, length)
    assert found["input_ids"][0, -1] == 0  # padded on the right
    assert found["attention_mask"].all() == kind.startswith("siglip")
    long = " ".join(["red"] * 50)
    assert made.cut(long, "caption")
    assert not made.cut("a red cat", "caption")
    assert made.texts([long], "caption")["input_ids"].shape == (1, POSITIONS[kind])


def test_the_fingerprint_tells_how_pictures_are_prepared(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["siglip"], tmp_path / "other")
    file = tmp_path / "other" / "processor_config.json"
    before = Retriever.load(tmp_path / "other", device="cpu").fingerprint()
    file.write_text(file.read_text().replace("0.5", "0.4"))
    assert Retriever.load(tmp_path / "other", device="cpu").fingerprint() != before
