"""VQAv2 in both layouts and Visual Genome: what is read, what is trained on and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aurora_vl.data.readers import SplitChoice, read_questions
from aurora_vl.data.records import QuestionRecord, Splits
from aurora_vl.errors import UserError

TEN = ["yes"] * 7 + ["no", "", "n o"]


def question(number: int, image: int | None = None) -> dict[str, Any]:
    return {"image_id": image or number, "question": f"Is it {number}?", "question_id": number}


def annotation(number: int) -> dict[str, Any]:
    return {
        "question_id": number,
        "image_id": number,
        "question_type": "is it",
        "answer_type": "yes/no",
        "multiple_choice_answer": "yes",
        "answers": [{"answer": a, "answer_confidence": "no", "answer_id": i} for i, a in
                    enumerate(TEN, 1)],
    }  # fmt: skip


@pytest.fixture
def official(write_json: Any, tmp_path: Path) -> Path:
    """Twenty training questions, two of validation, three and one of the tests."""
    numbers = {"train2014": range(1, 21), "val2014": (31, 32), "test2015": (41, 42, 43)}
    for split, found in {**numbers, "test-dev2015": (42,)}.items():
        name = f"v2_OpenEnded_mscoco_{split}_questions.json"
        write_json(name, {"questions": [question(n) for n in found]})
        if not split.startswith("test"):
            content = {"annotations": [annotation(n) for n in reversed(list(found))]}
            write_json(f"v2_mscoco_{split}_annotations.json", content)
    return tmp_path


def read(folder: Path, **chosen: Any) -> Splits[QuestionRecord]:
    return read_questions("vqav2", folder, folder, seed=0, choice=SplitChoice(**chosen))


def ids(records: list[QuestionRecord]) -> list[Any]:
    return [record.question_id for record in records]


def test_the_validation_questions_are_scored(official: Path) -> None:
    (official / "train2014").mkdir()
    splits = read(official)
    assert (ids(splits.test), splits.scored) == ([31, 32], "val")
    assert (len(splits.train), len(splits.val)) == (18, 2)
    assert sorted(ids(splits.train) + ids(splits.val)) == list(range(1, 21))
    assert splits.test[0] == QuestionRecord(
        31,
        "COCO_val2014_000000000031.jpg",
        official / "COCO_val2014_000000000031.jpg",
        "image",
        "Is it 31?",
        tuple(TEN),
        "yes/no",
        "is it",
    )
    in_folder = splits.train[0]
    assert in_folder.media_id.startswith("train2014/COCO_train2014_0000000000")


def test_trained_on_too_they_are_not(official: Path) -> None:
    splits = read(official, train_on="train+val")
    assert set(ids(splits.train) + ids(splits.val)) == {*range(1, 21), 31, 32}
    assert (ids(splits.test), splits.scored) == ([42], "test-dev")
    assert splits.test[0].answers == ()
    assert splits.test[0].media_id == "COCO_test2015_000000000042.jpg"
    assert "test-dev: it has no answers" in splits.notes[-1]
    with pytest.raises(UserError, match=r"data\.scored is val, but the validation file is trained"):
        read(official, train_on="train+val", scored="val")


def test_the_test_questions_on_demand(official: Path) -> None:
    splits = read(official, scored="test")
    assert (ids(splits.test), ids(splits.val), splits.scored) == ([41, 42, 43], [31, 32], "test")
    assert len(splits.train) == 20
    with pytest.raises(UserError, match=r"data\.scored is std.*there is: test-dev, test, val"):
        read(official, scored="std")


def test_nothing_to_score_but_what_is_held_out(official: Path) -> None:
    for name in ("val2014", "test2015", "test-dev2015"):
        (official / f"v2_OpenEnded_mscoco_{name}_questions.json").unlink()
    splits = read(official)
    assert splits.test == splits.val
    assert splits.scored == "val"
    with pytest.raises(UserError, match="no validation file to train on"):
        read(official, train_on="train+val")
    with pytest.raises(UserError, match="the validation file is not there"):
        read(official, scored="val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": [question(1), question(1)]}, "question_id 1 occurs twice"),
        ({"questions": [question(1)]}, r"question 20 is not in .*train2014_questions"),
        ({"questions": [question(99)]}, "question 99 has no annotation in v2_mscoco_train2014"),
        ({"questions": [{**question(1), "image_id": "1"}]}, "'image_id' must be a whole number"),
        ({"questions": [{**question(1), "question_id": None}]}, "'question_id' must be"),
        ({"questions": [{**question(1), "question": "..."}]}, r"'question' holds '\.\.\.', which"),
        ({"data": []}, "has no key 'questions': it is not of VQAv2's official layout"),
    ],
)
def test_wrong_questions_are_named(
    official: Path, write_json: Any, change: Any, message: str
) -> None:
    write_json("v2_OpenEnded_mscoco_train2014_questions.json", change)
    with pytest.raises(UserError, match=message):
        read(official)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "'answers' is an empty list"),
        ([{"answer": 3}], "answer 0 has no text under 'answer'"),
        ("yes", "is text, not a list"),
    ],
)
def test_wrong_answers_are_named(
    official: Path, write_json: Any, answers: Any, message: str
) -> None:
    rows = [{**annotation(n), "answers": answers} for n in range(1, 21)]
    write_json("v2_mscoco_train2014_annotations.json", {"annotations": rows})
    with pytest.raises(UserError, match=message):
        read(official)


def row(number: int, answer: Any = None) -> dict[str, Any]:
    found = {"dataset": "vqa", "image": f"train2014/{number}.jpg", "question": "what?"}
    found["question_id"] = number  # type: ignore[assignment]
    return found if answer is None else {**found, "answer": answer}


def test_blips_layout(write_json: Any, tmp_path: Path) -> None:
    votes = ("cat", "#", "", "dog")  # odd ones as the official files have them
    write_json("vqa_train.json", [row(n, list(votes)) for n in range(10)])
    write_json("vqa_val.json", [row(n, ["cat"]) for n in (10, 11)])
    write_json("vqa_test.json", [row(20)])
    write_json("answer_list.json", ["cat", "dog"])
    write_json(
        "vg_qa.json",
        [{"dataset": "vg", "image": "VG/7.jpg", "question": "who?", "answer": "a man"}] * 2,
    )
    splits = read(tmp_path)
    assert (splits.scored, ids(splits.test), len(splits.train)) == ("val", [10, 11], 9)
    assert splits.test[0].path == tmp_path / "train2014" / "10.jpg"
    assert splits.answer_list == ("cat", "dog")
    assert splits.train[0].answers == votes
    assert read(tmp_path, train_on="train+val").test[0].answers == ()
    genome = tmp_path / "genome"
    genome.mkdir()
    more = read_questions("vqav2", tmp_path, tmp_path, seed=0, genome=genome)
    assert more.val == splits.val
    assert more.train[:9] == splits.train
    assert [(r.question_id, r.source, r.path) for r in more.train[9:]] == [
        ("vg0", "vg", genome / "VG/7.jpg"),
        ("vg1", "vg", genome / "VG/7.jpg"),
    ]


@pytest.mark.parametrize("odd", [r'"a \ud83d"', "1" * 5000])
def test_a_file_with_what_is_no_text_or_number(official: Path, odd: str) -> None:
    path = official / "v2_OpenEnded_mscoco_train2014_questions.json"
    path.write_text('{"questions": [\n{"question": ' + odd + "}]}")
    with pytest.raises(UserError, match=r"questions\.json (line 2 )?holds (\\ud83d|a number)"):
        read(official)


def test_neither_layout(tmp_path: Path, write_json: Any) -> None:
    with pytest.raises(UserError, match=r"holds neither v2_OpenEnded.* nor vqa_train\.json"):
        read(tmp_path)
    write_json("vqa_train.json", [row(0, "a"), row(1)])
    with pytest.raises(UserError, match="entry 1 has no key 'answer'"):
        read(tmp_path)
    write_json("vqa_train.json", [{**row(0, "a"), "question": "..."}])
    with pytest.raises(UserError, match=r"entry 0: 'question' holds '\.\.\.', which has no words"):
        read(tmp_path)
    write_json("vqa_train.json", [row(n, "a") for n in range(4)])
    write_json("answer_list.json", {"a": 1})
    with pytest.raises(UserError, match=r"answer_list\.json must be a JSON list of texts"):
        read(tmp_path)
