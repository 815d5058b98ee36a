from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from aurora_vl.data.datasets import MediaSet, RetrievalTrainSet, caption_table
from aurora_vl.data.media import load_media
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.transforms import ImageTransform
from aurora_vl.errors import UserError

CROP = ImageTransform(8, (0.3, 1.0))


@pytest.fixture
def records(tmp_path: Path, write_pictures: Any) -> list[CaptionedMedia]:
    captions = [("A Dog.", "One dog!"), (), ("A cat",), ("w " * 40, "x", "y")]
    return [
        CaptionedMedia(name, tmp_path / name, "image", texts)
        for name, texts in zip(write_pictures(4), captions)
    ]


def same(one: Any, two: Any) -> dict[str, bool]:
    """Which parts of two items are equal."""
    return {
        "pixels": torch.equal(one["pixel_values"], two["pixel_values"]),
        "uniforms": bool((one["uniforms"] == two["uniforms"]).all()),
        "augment_seed": one["augment_seed"] == two["augment_seed"],
    }


def test_one_item_per_pair(records: list[CaptionedMedia]) -> None:
    items = list(RetrievalTrainSet(records, CROP, seed=0))
    assert [item["media_index"] for item in items] == [0, 0, 2, 3, 3, 3]
    captions = [item["caption"] for item in items]
    assert captions[:3] == ["a dog", "one dog", "a cat"]
    assert captions[3].split() == ["w"] * 30
    assert captions[4:] == ["x", "y"]


def test_an_items_parts(records: list[CaptionedMedia]) -> None:
    item = RetrievalTrainSet(records, CROP, seed=0)[0]
    assert item["pixel_values"].dtype == torch.uint8
    assert item["pixel_values"].shape == (3, 8, 8)
    assert item["uniforms"].dtype == np.float32
    assert item["uniforms"].shape == (2,)
    assert isinstance(item["media_index"], int)
    assert 0 <= item["augment_seed"] < 2**63


def test_items_depend_on_seed_epoch_and_index_alone(records: list[CaptionedMedia]) -> None:
    first, again = (RetrievalTrainSet(records, CROP, seed=5) for _ in range(2))
    forwards = [first[index] for index in range(6)]
    torch.manual_seed(0)
    np.random.seed(0)
    backwards = [again[index] for index in reversed(range(6))][::-1]
    for one, two in zip(forwards, backwards):
        assert all(same(one, two).values())
    first.set_epoch(1)
    assert not any(same(first[0], forwards[0]).values())
    first.set_epoch(0)
    assert all(same(first[0], forwards[0]).values())
    other_seed = RetrievalTrainSet(records, CROP, seed=6)[0]
    assert not any(same(other_seed, forwards[0]).values())
    # the same picture with its other caption is cropped by itself
    assert not any(same(forwards[0], forwards[1]).values())


def test_uniforms_are_uniform_and_below_one(records: list[CaptionedMedia]) -> None:
    train = RetrievalTrainSet(records, ImageTransform(1), seed=0)
    drawn = []
    for epoch in range(100):
        train.set_epoch(epoch)
        drawn += [train[index]["uniforms"] for index in range(6)]
    values = np.stack(drawn)
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.05
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.15


def test_workers_that_outlive_an_epoch_see_the_next(records: list[CaptionedMedia]) -> None:
    train = RetrievalTrainSet(records, CROP, seed=0)
    loader = DataLoader(
        train,
        batch_size=None,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    for epoch in (0, 3):
        train.set_epoch(epoch)
        for index, item in enumerate(loader):
            expected = train[index]
            assert torch.equal(item["pixel_values"], expected["pixel_values"])
            assert item["augment_seed"] == expected["augment_seed"]


@pytest.mark.parametrize("captioned", [False, True])
def test_a_training_set_without_captions_is_refused(
    records: list[CaptionedMedia], captioned: bool
) -> None:
    with pytest.raises(UserError, match="no captioned media"):
        RetrievalTrainSet(records[1:2] if captioned else [], CROP, seed=0)


def test_media_for_evaluation_are_whole_and_in_order(records: list[CaptionedMedia]) -> None:
    media = MediaSet(records, ImageTransform(8))
    assert len(media) == 4
    for index, record in enumerate(records):
        with Image.open(record.path) as image:
            expected = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC))
        assert torch.equal(media[index], torch.from_numpy(expected.copy()).permute(2, 0, 1))
    assert torch.equal(MediaSet(records, CROP)[0], media[0])


def test_the_caption_table_names_owners(records: list[CaptionedMedia]) -> None:
    texts, owners = caption_table(records)
    assert texts == ["a dog", "one dog", "a cat", " ".join(["w"] * 30), "x", "y"]
    assert owners.dtype == np.int64
    assert owners.tolist() == [0, 0, 2, 3, 3, 3]
    assert len(caption_table(records, max_words=40)[0][3].split()) == 40
    assert caption_table([])[1].tolist() == []


def test_a_video_where_pictures_are_read_is_refused(tmp_path: Path) -> None:
    record = CaptionedMedia("a.mp4", tmp_path / "a.mp4", "video", ("x",))
    with pytest.raises(UserError, match=r"a\.mp4 is listed as a video where pictures are read"):
        load_media(record, CROP)


def test_a_damaged_picture_is_named_by_the_item(records: list[CaptionedMedia]) -> None:
    records[0].path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"0\.png is not a picture"):
        RetrievalTrainSet(records, CROP, seed=0)[0]
