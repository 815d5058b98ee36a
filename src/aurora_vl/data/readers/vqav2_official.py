"""VQAv2 as its makers publish it: a file of questions a split, and one of annotations.

Questions and annotations are joined by `question_id`; pictures are COCO's, named by split and
`image_id`, in a folder a split or all in one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aurora_vl.data.readers.files import Entry, as_list, as_object, is_there, question_of, read_json
from aurora_vl.data.readers.vqav2_blip import VqaFiles, answer_list, identity_of
from aurora_vl.data.records import QuestionRecord
from aurora_vl.errors import UserError

_SPLITS = ("train2014", "val2014", "test2015", "test-dev2015")
_PICTURES = {"test-dev2015": "test2015"}  # whose pictures are a share of the test's


def questions_file(split: str) -> str:
    """The name of a split's questions."""
    return f"v2_OpenEnded_mscoco_{split}_questions.json"


def annotations_file(split: str) -> str:
    """The name of a split's answers."""
    return f"v2_mscoco_{split}_annotations.json"


def present(annotations: Path) -> bool:
    """Say whether any file of questions lies in the folder."""
    return any(is_there(annotations / questions_file(split)) for split in _SPLITS)


def read(annotations: Path, media: Path) -> VqaFiles:
    """Read what there is; training questions must be there, test questions have no answers.

    Raises:
        UserError: a file is absent or wrong, or a question has no annotation or an annotation no
            question.
    """
    train, val, test, dev = (annotations / questions_file(split) for split in _SPLITS)
    return VqaFiles(
        _read_split(train, media, "train2014"),
        _read_split(val, media, "val2014") if is_there(val) else None,
        _read_split(test, media, "test2015") if is_there(test) else None,
        _read_split(dev, media, "test-dev2015") if is_there(dev) else None,
        answer_list(annotations),
    )


def _read_split(path: Path, media: Path, split: str) -> list[QuestionRecord]:
    told = _by_question(path.with_name(annotations_file(split)), split)
    folder = _PICTURES.get(split, split)
    prefix = f"{folder}/" if (media / folder).is_dir() else ""
    records: dict[int | str, QuestionRecord] = {}
    for place, entry in _rows(path, "questions"):
        identity = identity_of(entry, place)
        if identity in records:
            raise UserError(f"{place}: question_id {identity!r} occurs twice")
        name = f"{prefix}COCO_{folder}_{_number(entry, 'image_id', place):012d}.jpg"
        answer: Entry = {}
        if told is not None:
            if identity not in told:
                raise UserError(
                    f"{place}: question {identity!r} has no annotation in {annotations_file(split)}"
                )
            answer = told[identity]
        records[identity] = QuestionRecord(
            identity,
            name,
            media / name,
            "image",
            question_of(entry, place),
            answer.get("answers", ()),
            answer.get("answer_type", ""),
            answer.get("question_type", ""),
        )
    strange = next((key for key in told or () if key not in records), None)
    if strange is not None:
        raise UserError(f"{annotations_file(split)}: question {strange!r} is not in {path}")
    return list(records.values())


def _by_question(path: Path, split: str) -> dict[int | str, dict[str, Any]] | None:
    """Answers and types by question; None for the test splits, whose answers are not published."""
    if split.startswith("test") and not is_there(path):
        return None
    return {
        identity_of(entry, place): {
            "answers": _answers(entry, place),
            "answer_type": str(entry.get("answer_type", "")),
            "question_type": str(entry.get("question_type", "")),
        }
        for place, entry in _rows(path, "annotations")
    }


def _answers(entry: Entry, place: str) -> tuple[str, ...]:
    """The annotators' answers as they stand, the odd empty one included."""
    if "answers" not in entry:
        raise UserError(f"{place} has no key 'answers'")
    found = []
    for index, given in enumerate(as_list(entry["answers"], f"{place} 'answers'")):
        answer = as_object(given, f"{place} answer {index}").get("answer")
        if not isinstance(answer, str):
            raise UserError(f"{place} answer {index} has no text under 'answer'")
        found.append(answer)
    if not found:
        raise UserError(f"{place}: 'answers' is an empty list")
    return tuple(found)


def _rows(path: Path, key: str) -> list[tuple[str, Entry]]:
    content = as_object(read_json(path), str(path))
    if key not in content:
        raise UserError(f"{path} has no key {key!r}: it is not of VQAv2's official layout")
    rows = as_list(content[key], f"{path} {key!r}")
    return [
        (place, as_object(row, place))
        for place, row in ((f"{path} {key} {index}", row) for index, row in enumerate(rows))
    ]


def _number(entry: Entry, key: str, place: str) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{place}: {key!r} must be a whole number")
    return value
