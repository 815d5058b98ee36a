"""What the lists of a split hold is what is read from them, in every layout."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aurora_vl.data.readers import read_questions, read_retrieval
from aurora_vl.data.synthetic.writing import WorldSpec, ensure_world
from aurora_vl.errors import UserError


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _karpathy(folder: Path) -> int:
    (file,) = folder.glob("dataset_*.json")
    return sum(len(image["sentences"]) for image in _json(file)["images"])


def _msrvtt(folder: Path) -> int:
    sentences = _json(folder / "MSRVTT_data.json")["sentences"]
    with (folder / "MSRVTT_train.9k.csv").open() as file:
        trained = {row["video_id"] for row in csv.DictReader(file)}
    with (folder / "MSRVTT_JSFUSION_test.csv").open() as file:
        tested = sum(1 for _ in csv.DictReader(file))
    return sum(row["video_id"] in trained for row in sentences) + tested


def _didemo(folder: Path) -> int:
    """Paragraphs: one a video."""
    files = [folder / f"{split}_data.json" for split in ("train", "val", "test")]
    return sum(len({row["video"] for row in _json(file)}) for file in files)


def _blip(folder: Path) -> int:
    rows = [row for file in folder.glob("coco_karpathy_*.json") for row in _json(file)]
    return sum(len(row["caption"]) if isinstance(row["caption"], list) else 1 for row in rows)


CAPTIONS: dict[str, Callable[[Path], int]] = {
    "coco": _blip,
    "flickr30k": _karpathy,
    "msrvtt": _msrvtt,
    "didemo": _didemo,
}


def _world(folder: Path, layout: str) -> Any:
    spec = WorldSpec(layout=layout, train=12, val=4, test=6, captions=3)
    return ensure_world(folder / layout, spec)


@pytest.mark.parametrize("layout", CAPTIONS)
def test_captions_are_counted(tmp_path: Path, layout: str) -> None:
    world = _world(tmp_path, layout)
    splits = read_retrieval(world.kind, world.annotations, world.media, seed=0)
    read = sum(len(record.captions) for records in splits.named().values() for record in records)
    assert read == CAPTIONS[layout](world.annotations) > 20


@pytest.mark.parametrize(("layout", "files"), [("vqav2", "*_questions.json"), ("msrvtt-qa", "*")])
def test_questions_are_counted(tmp_path: Path, layout: str, files: str) -> None:
    world = _world(tmp_path, layout)
    splits = read_questions(world.kind, world.annotations, world.media, seed=0)
    read = {record.question_id for records in splits.named().values() for record in records}
    listed = [_json(file) for file in sorted(world.annotations.glob(files))]
    rows = [row for one in listed for row in (one if isinstance(one, list) else one["questions"])]
    scored = [row for row in rows if row.get("question_id", 0) < 2_000_000_000]  # not the tests'
    assert len(read) == len(scored) > 22


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        (
            "coco_karpathy_train.json",
            '[{"image": "a.jpg", "image": "b.jpg", "caption": "x"}]',
            "image",
        ),
        ("dataset_coco.json", '{"images": [{"split": "train"}], "images": []}', "images"),
    ],
)
def test_a_key_that_is_written_twice(tmp_path: Path, name: str, content: str, key: str) -> None:
    """The former value would be lost without a word."""
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name} has an object with the key '{key}' twice: keep"):
        read_retrieval("coco", tmp_path, tmp_path, seed=0)
