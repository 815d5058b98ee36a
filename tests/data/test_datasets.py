from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from videos import write_frames, write_numbered

from aurora_vl.backbones.blip.text import clean_caption
from aurora_vl.data.datasets import RetrievalTrainSet, caption_table, shared_captions
from aurora_vl.data.media import load_media, require_kind, without_missing
from aurora_vl.data.records import CaptionedMedia, Splits
from aurora_vl.data.transforms import ImageTransform
from aurora_vl.data.video import read_frames
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
        "pixels": torch.equal(one["media"], two["media"]),
        "uniforms": bool((one["uniforms"] == two["uniforms"]).all()),
        "augment_seed": one["augment_seed"] == two["augment_seed"],
    }


def test_one_item_per_pair(records: list[CaptionedMedia]) -> None:
    items = list(RetrievalTrainSet(records, CROP, seed=0))
    assert [item["media_index"] for item in items] == [0, 0, 2, 3, 3, 3]
    captions = [caption for item in items for caption in item["captions"]]
    assert captions[:3] == ["A Dog.", "One dog!", "A cat"]
    assert captions[3].split() == ["w"] * 40
    assert captions[4:] == ["x", "y"]


def test_captions_of_a_medium_together(records: list[CaptionedMedia]) -> None:
    """Each caption once; what is missing is filled with the medium's first ones."""
    train = RetrievalTrainSet(records, CROP, seed=0, captions_per_item=2)
    items = [train[index] for index in range(len(train))]
    assert [item["media_index"] for item in items] == [0, 2, 3, 3]
    long = "w " * 40
    assert [item["captions"] for item in items] == [
        ["A Dog.", "One dog!"],
        ["A cat", "A cat"],
        [long, "x"],
        ["y", long],
    ]
    assert {item["uniforms"].shape for item in items} == {(2, 2)}
    assert train.path_of(3) == records[3].path


def test_an_items_parts(records: list[CaptionedMedia]) -> None:
    item = RetrievalTrainSet(records, CROP, seed=0)[0]
    assert item["media"].dtype == torch.uint8
    assert item["media"].shape == (3, 8, 8)
    assert item["uniforms"].dtype == np.float32
    assert item["uniforms"].shape == (1, 2)
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
    values = np.concatenate(drawn)
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
            assert torch.equal(item["media"], expected["media"])
            assert item["augment_seed"] == expected["augment_seed"]


@pytest.mark.parametrize("captioned", [False, True])
def test_a_training_set_without_captions_is_refused(
    records: list[CaptionedMedia], captioned: bool
) -> None:
    with pytest.raises(UserError, match="no captioned media"):
        RetrievalTrainSet(records[1:2] if captioned else [], CROP, seed=0)


def test_media_without_a_generator_are_whole(records: list[CaptionedMedia]) -> None:
    for record in records:
        with Image.open(record.path) as image:
            expected = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC))
        pixels = load_media(record, CROP)
        assert torch.equal(pixels, torch.from_numpy(expected.copy()).permute(2, 0, 1))


def test_the_caption_table_names_owners(records: list[CaptionedMedia]) -> None:
    texts, owners = caption_table(records)
    assert texts == ["A Dog.", "One dog!", "A cat", "w " * 40, "x", "y"]
    assert owners.dtype == np.int64
    assert owners.tolist() == [0, 0, 2, 3, 3, 3]
    assert caption_table([])[1].tolist() == []


def test_captions_that_read_the_same(records: list[CaptionedMedia]) -> None:
    """Of different media, once they are cleaned and cut; a medium's own repetition is none."""
    assert shared_captions(records, clean_caption) == (0, 6)
    twin = replace(records[2], media_id="twin", captions=("a cat!", "A DOG", "a cat"))
    assert shared_captions([*records, twin], clean_caption) == (5, 9)
    assert shared_captions(records, partial(clean_caption, max_words=1)) == (
        2,
        6,
    )  # "a dog" and "a cat" are both "a"


@pytest.fixture
def video(tmp_path: Path) -> CaptionedMedia:
    """Twenty frames, two seconds."""
    path = write_numbered(tmp_path / "a.mp4", 20)
    return CaptionedMedia("a.mp4", path, "video", ("x",))


def test_a_video_is_its_frames(video: CaptionedMedia) -> None:
    transform = ImageTransform(16, (0.3, 1.0), frames=5)
    pixels = load_media(video, transform)
    assert pixels.shape == (5, 3, 16, 16)
    assert pixels.dtype == torch.uint8
    expected = [transform.image(picture) for picture in read_frames(video.path, 5)]
    assert torch.equal(pixels, torch.stack(expected))


def test_a_window_of_a_video(video: CaptionedMedia) -> None:
    part = replace(video, window=(1.0, 2.0))
    transform = ImageTransform(16, frames=2)
    expected = [transform.image(p) for p in read_frames(video.path, 2, window=(1.0, 2.0))]
    assert torch.equal(load_media(part, transform), torch.stack(expected))


def test_all_frames_are_cropped_alike(tmp_path: Path) -> None:
    """Equal frames stay equal; another item, epoch or no generator crops otherwise."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    picture = np.broadcast_to(ramp[None, :, None], (48, 64, 3)).copy()
    path = write_frames(tmp_path / "a.mp4", [picture] * 12, qp="0")
    train = RetrievalTrainSet(
        [CaptionedMedia("a.mp4", path, "video", ("x", "y"))],
        ImageTransform(8, (0.1, 0.3), frames=4),
        seed=0,
    )
    one, other = train[0]["media"], train[1]["media"]
    assert torch.equal(one, one[:1].expand(4, -1, -1, -1))
    assert not torch.equal(one, other)
    assert int(one[0, 0, 0].max() - one[0, 0, 0].min()) < 200  # a part of the ramp


def test_training_draws_other_frames_in_other_epochs(video: CaptionedMedia) -> None:
    train = RetrievalTrainSet([video], ImageTransform(16, frames=3), seed=0)
    first = train[0]["media"]
    assert torch.equal(first, train[0]["media"])
    train.set_epoch(1)
    assert not torch.equal(first, train[0]["media"])


@pytest.mark.parametrize(("kind", "words"), [("image", "a picture"), ("video", "a video")])
def test_one_kind_of_media(tmp_path: Path, kind: Any, words: str) -> None:
    record = CaptionedMedia("a", tmp_path / "a", kind, ("x",))
    splits = Splits([record], [record], [record])
    require_kind(splits, kind)
    other: Any = "video" if kind == "image" else "image"
    with pytest.raises(UserError, match=f"a is listed as {words} where .* are read"):
        require_kind(splits, other)


def test_an_animation_is_a_video_or_its_first_frame(tmp_path: Path) -> None:
    """By the key it is listed under."""
    path = write_numbered(tmp_path / "a.gif", 10, codec="gif", pixels="rgb8")
    moving, still = (CaptionedMedia("a.gif", path, kind, ("x",)) for kind in ("video", "image"))
    frames = load_media(moving, ImageTransform(16, frames=10))
    first = load_media(still, ImageTransform(16))
    assert frames.shape == (10, 3, 16, 16)
    assert torch.equal(first, frames[0])
    assert not torch.equal(first, frames[9])


def skipping(records: list[CaptionedMedia]) -> RetrievalTrainSet:
    return RetrievalTrainSet(records, CROP, seed=3, on_error="skip")


def test_damaged_media_are_skipped_in_training_and_listed(records: list[CaptionedMedia]) -> None:
    before = [skipping(records)[index] for index in range(6)]
    records[0].path.write_bytes(b"nothing")
    train = skipping(records)
    after = [train[index] for index in range(6)]
    assert {item["media_index"] for item in after} == {2, 3}
    for index in range(2, 6):  # whole items are as they were
        assert all(same(before[index], after[index]).values())
    assert train.skipped() == [str(records[0].path)]
    again = skipping(records)  # drawn from seed, epoch and item alone, in any order
    for index in reversed(range(6)):
        assert all(same(again[index], after[index]).values())


def test_what_workers_skip_is_seen(records: list[CaptionedMedia]) -> None:
    records[2].path.write_bytes(b"nothing")
    train = skipping(records)
    loader = DataLoader(train, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert len(list(loader)) == 6
    assert train.skipped() == [str(records[2].path)]


def test_nothing_but_damaged_media(records: list[CaptionedMedia]) -> None:
    for record in records:
        record.path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is not a picture"):
        skipping(records)[0]


def test_absent_training_media_may_be_left_out_by_name(records: list[CaptionedMedia]) -> None:
    absent = replace(records[0], path=records[0].path.with_name("gone.png"))
    splits = Splits([absent, *records[1:]], [absent], [absent])
    kept, missing = without_missing(splits)
    assert missing == [str(absent.path)]
    assert kept.train == records[1:]
    assert kept.val == kept.test == [absent]


def test_a_damaged_picture_is_named_by_the_item(records: list[CaptionedMedia]) -> None:
    records[0].path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"0\.png is not a picture"):
        RetrievalTrainSet(records, CROP, seed=0)[0]
