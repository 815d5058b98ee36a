"""COCO and Flickr30k in both layouts, from hand-made files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aurora_vl.data.readers import read_retrieval
from aurora_vl.errors import UserError

WriteJson = Callable[[str, Any], Path]


def write_blip(write_json: WriteJson, stem: str = "coco_karpathy") -> None:
    train = [
        {"image": "train2014/1.jpg", "caption": "A dog.", "image_id": "coco_1"},
        {"image": "train2014/2.jpg", "caption": "A cat.", "image_id": "coco_2"},
        {"image": "train2014/1.jpg", "caption": "One dog.", "image_id": "coco_1"},
    ]
    write_json(f"{stem}_train.json", train)
    write_json(f"{stem}_val.json", [{"image": "val2014/3.jpg", "caption": ["x", "y", "z"]}])
    write_json(f"{stem}_test.json", [{"image": "val2014/4.jpg", "caption": ["w"]}])


def karpathy_image(name: str, split: str, *captions: str, **more: Any) -> dict[str, Any]:
    sentences = [{"raw": text, "tokens": []} for text in captions]
    return {"filename": name, "split": split, "sentences": sentences, "imgid": 0, **more}


@pytest.mark.parametrize(("kind", "stem"), [("coco", "coco_karpathy"), ("flickr30k", "flickr30k")])
def test_blip_layout(write_json: WriteJson, tmp_path: Path, kind: str, stem: str) -> None:
    write_blip(write_json, stem)
    splits = read_retrieval(kind, tmp_path, tmp_path, seed=1)
    assert [record.media_id for record in splits.train] == ["train2014/1.jpg", "train2014/2.jpg"]
    assert splits.train[0].captions == ("A dog.", "One dog.")  # two rows, one picture
    assert splits.train[0].path == tmp_path / "train2014" / "1.jpg"
    assert splits.train[0].kind == "image"
    assert [record.captions for record in splits.val] == [("x", "y", "z")]
    assert [record.captions for record in splits.test] == [("w",)]
    assert splits.scored == "test"
    assert splits.notes == ()


def test_blip_layout_without_a_validation_file(write_json: WriteJson, tmp_path: Path) -> None:
    write_blip(write_json)
    (tmp_path / "coco_karpathy_val.json").unlink()
    splits = read_retrieval("coco", str(tmp_path), str(tmp_path), seed=1)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (1, 1, 1)
    assert splits.scored == "test"
    assert "held out (1 of 2)" in splits.notes[0]


def test_karpathy_coco(write_json: WriteJson, tmp_path: Path) -> None:
    images = [
        karpathy_image("1.jpg", "train", "a", "b", filepath="train2014", cocoid=1),
        karpathy_image("2.jpg", "restval", "c", filepath="val2014", cocoid=2),
        karpathy_image("3.jpg", "val", "d", filepath="val2014", cocoid=3),
        karpathy_image("4.jpg", "test", "e", "f", filepath="val2014", cocoid=4),
    ]
    write_json("dataset_coco.json", {"images": images, "dataset": "coco"})
    splits = read_retrieval("coco", tmp_path, tmp_path / ".", seed=1)
    assert [record.media_id for record in splits.train] == ["train2014/1.jpg", "val2014/2.jpg"]
    assert splits.train[0].captions == ("a", "b")
    assert [record.media_id for record in splits.val] == ["val2014/3.jpg"]
    assert splits.test[0].captions == ("e", "f")
    assert splits.test[0].path == tmp_path / "val2014" / "4.jpg"


@pytest.mark.parametrize("in_a_folder", [True, False])
def test_karpathy_flickr_finds_its_folder(
    write_json: WriteJson, tmp_path: Path, in_a_folder: bool
) -> None:
    images = [karpathy_image(f"{i}.jpg", split, "a") for i, split in enumerate(["train", "test"])]
    images.append(karpathy_image("9.jpg", "val", "b"))
    write_json("dataset_flickr30k.json", {"images": images})
    media = tmp_path / "media"
    media.mkdir()
    if in_a_folder:
        (media / "flickr30k-images").mkdir()
    splits = read_retrieval("flickr30k", tmp_path, media, seed=1)
    expected = media / "flickr30k-images" / "0.jpg" if in_a_folder else media / "0.jpg"
    assert splits.train[0].path == expected


def test_where_both_layouts_lie_blips_is_read(write_json: WriteJson, tmp_path: Path) -> None:
    write_blip(write_json)
    write_json("dataset_coco.json", {"images": [karpathy_image("9.jpg", "train", "a")]})
    assert len(read_retrieval("coco", tmp_path, tmp_path, seed=1).train) == 2


def test_a_folder_of_neither_layout_names_both(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither coco_karpathy_train\.json .* dataset_coco\.json"):
        read_retrieval("coco", tmp_path, tmp_path, seed=1)


def test_a_missing_training_file_is_named(write_json: WriteJson, tmp_path: Path) -> None:
    write_blip(write_json)
    (tmp_path / "coco_karpathy_train.json").unlink()
    with pytest.raises(UserError, match=r"coco_karpathy_train\.json does not exist"):
        read_retrieval("coco", tmp_path, tmp_path, seed=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image": "a"}, r"train\.json is an object, not a list"),
        ([3], r"entry 0 is a number, not an object"),
        ([{"caption": "x"}], r"entry 0 has no key 'image' \(its keys: 'caption'\)"),
        ([{"image": "a"}], r"entry 0 has no key 'caption'"),
        ([{"image": 4, "caption": "x"}], r"'image' is a number, not text"),
        ([{"image": " ", "caption": "x"}], r"'image' is empty"),
        ([{"image": "a", "caption": []}], r"'caption' is an empty list"),
        ([{"image": "a", "caption": None}], r"'caption' holds null"),
        ([{"image": "a", "caption": ["x", 2]}], r"'caption' holds a number"),
        ([{"image": "a", "caption": "..."}], r"'\.\.\.', which has no words"),
        ([], r"the training split is empty"),
    ],
)
def test_wrong_blip_files(
    write_json: WriteJson, tmp_path: Path, content: Any, message: str
) -> None:
    write_blip(write_json)
    write_json("coco_karpathy_train.json", content)
    with pytest.raises(UserError, match=message):
        read_retrieval("coco", tmp_path, tmp_path, seed=1)


def test_wrong_json_is_placed(write_json: WriteJson, tmp_path: Path) -> None:
    write_blip(write_json)
    (tmp_path / "coco_karpathy_val.json").write_text('[\n{"image": }]')
    with pytest.raises(UserError, match=r"val\.json is not valid JSON, line 2 column 11"):
        read_retrieval("coco", tmp_path, tmp_path, seed=1)
    (tmp_path / "coco_karpathy_val.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"val\.json is nested too deeply"):
        read_retrieval("coco", tmp_path, tmp_path, seed=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"dataset_coco\.json is a list, not an object"),
        ({"annotations": []}, r"has no key 'images'"),
        ({"images": {}}, r"'images' is an object, not a list"),
        ({"images": [karpathy_image("a", "dev", "x")]}, r"image 0: split 'dev' is none of"),
        ({"images": [{"split": "train", "sentences": []}]}, r"image 0 has no key 'filename'"),
        ({"images": [karpathy_image("a", "train")]}, r"'sentences' is an empty list"),
        ({"images": [{"filename": "a", "split": "val"}]}, r"image 0 has no key 'sentences'"),
        ({"images": [karpathy_image("a", "train", " ")]}, r"sentence 0: 'raw' holds ' '"),
        ({"images": [karpathy_image("a", "val", "x")]}, r"the training split is empty"),
    ],
)
def test_wrong_karpathy_files(
    write_json: WriteJson, tmp_path: Path, content: Any, message: str
) -> None:
    write_json("dataset_coco.json", content)
    with pytest.raises(UserError, match=message):
        read_retrieval("coco", tmp_path, tmp_path, seed=1)
