"""MSRVTT-QA in its forms on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aurora_vl.data.readers import read_questions
from aurora_vl.data.records import QuestionRecord
from aurora_vl.errors import UserError


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"id": n, "video_id": 6000 + n, "question": "who sings?", "answer": "man"}
        for n in range(first, first + count)
    ]


def test_the_json_files(write_json: Any, tmp_path: Path) -> None:
    for split, first, count in (("train", 0, 5), ("val", 10, 2), ("test", 20, 3)):
        write_json(f"{split}_qa.json", rows(first, count))
    splits = read_questions("msrvtt-qa", tmp_path, tmp_path, seed=0)
    assert [len(part) for part in splits.named().values()] == [5, 2, 3]
    assert (splits.scored, splits.notes) == ("test", ())
    assert splits.test[0] == QuestionRecord(
        20,
        "video6020.mp4",
        tmp_path / "video6020.mp4",
        "video",
        "who sings?",
        ("man",),
        question_type="who",
    )


@pytest.mark.parametrize("name", ["{}.jsonl", "{}_qa.jsonl"])
def test_the_jsonl_files(write_lines: Any, tmp_path: Path, name: str) -> None:
    line = {"question": "What is it", "answer": "cat", "video_id": "video6513"}
    write_lines(name.format("train"), [line, {**line, "video_id": "video1"}])
    write_lines(name.format("test"), [{**line, "answer_type": "what"}, line])
    splits = read_questions("msrvtt-qa", tmp_path, tmp_path, seed=0)
    assert (len(splits.train), len(splits.val), splits.scored) == (1, 1, "test")
    assert [r.question_type for r in splits.test] == ["what", "what"]
    assert [r.question_id for r in splits.test] == [0, 1]
    assert splits.test[0].path == tmp_path / "video6513.mp4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": ""}, "entry 1: 'answer' is empty"),
        ({"question": "..."}, "entry 1: 'question' holds '...', which has no words"),
        ({"video_id": None}, "entry 1: 'video_id' is null, not text"),
        ({"id": 0}, "entry 1: the id 0 occurs twice"),
        ({"id": [1]}, "entry 1: 'id' must be a whole number or text"),
    ],
)
def test_wrong_entries_are_named(
    write_json: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    first, second = rows(0, 2)
    write_json("train_qa.json", [first, {**second, **change}])
    with pytest.raises(UserError, match=message):
        read_questions("msrvtt-qa", tmp_path, tmp_path, seed=0)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no train_qa\.json or train_qa\.jsonl or train"):
        read_questions("msrvtt-qa", tmp_path, tmp_path, seed=0)


def test_converted_videos_are_found(write_json: Any, tmp_path: Path) -> None:
    for split, first in (("train", 0), ("val", 10), ("test", 20)):
        write_json(f"{split}_qa.json", rows(first, 2))
    (tmp_path / "video6020.webm").touch()
    splits = read_questions("msrvtt-qa", tmp_path, tmp_path, seed=0)
    assert [record.path.name for record in splits.test] == ["video6020.webm", "video6021.mp4"]
