"""BLIP's layout of VQAv2: `vqa_{train,val,test}.json` and `answer_list.json`.

An answer is a list with every annotator's vote, or one text; test questions have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aurora_vl.data.readers.files import (
    Entry,
    any_texts_of,
    as_list,
    as_object,
    is_there,
    question_of,
    read_json,
    text_of,
)
from aurora_vl.data.records import QuestionRecord
from aurora_vl.errors import UserError

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class VqaFiles:
    """What the files of VQAv2 hold; None where there is no such file."""

    train: list[QuestionRecord]
    val: list[QuestionRecord] | None
    test: list[QuestionRecord] | None
    test_dev: list[QuestionRecord] | None
    answer_list: tuple[str, ...]


def present(annotations: Path) -> bool:
    """Say whether any file of this layout lies in the folder."""
    return any(is_there(annotations / f"vqa_{split}.json") for split in _SPLITS)


def read(annotations: Path, media: Path) -> VqaFiles:
    """Read what there is; the training file must be there.

    Raises:
        UserError: a file is absent or an entry is wrong (named by its index).
    """
    train, val, test = (annotations / f"vqa_{split}.json" for split in _SPLITS)
    return VqaFiles(
        read_questions(train, media, "vqa"),
        read_questions(val, media, "vqa") if is_there(val) else None,
        read_questions(test, media, "vqa", answered=False) if is_there(test) else None,
        None,
        answer_list(annotations),
    )


def read_questions(
    path: Path, media: Path, source: str, *, answered: bool = True
) -> list[QuestionRecord]:
    """Read one file.

    Args:
        path: of the file.
        media: what its paths are relative to.
        source: the data set of rows that name none under `dataset`.
        answered: whether every row must have an answer.

    Returns:
        Records; `question_id` where a row gives one, else the row's index.
    """
    records: dict[int | str, QuestionRecord] = {}
    for index, row in enumerate(as_list(read_json(path), str(path))):
        place = f"{path} entry {index}"
        entry = as_object(row, place)
        identity = identity_of(entry, place) if "question_id" in entry else index
        if identity in records:
            raise UserError(f"{place}: question_id {identity!r} occurs twice")
        name = text_of(entry, "image", place)
        records[identity] = QuestionRecord(
            identity,
            name,
            media / name,
            "image",
            question_of(entry, place),
            any_texts_of(entry, "answer", place) if answered or "answer" in entry else (),
            source=str(entry.get("dataset", source)),
        )
    return list(records.values())


def identity_of(entry: Entry, place: str) -> int | str:
    """The entry's `question_id`, a whole number or a text."""
    identity = entry.get("question_id")
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        raise UserError(f"{place}: 'question_id' must be a whole number or text")
    return identity


def answer_list(annotations: Path) -> tuple[str, ...]:
    """The answers to choose from, of `answer_list.json`; () where there is none."""
    path = annotations / "answer_list.json"
    return read_answer_list(path, "check data.annotations") if is_there(path) else ()


def read_answer_list(path: Path, way_out: str) -> tuple[str, ...]:
    """The answers of a file with a JSON list of texts.

    Args:
        path: of the file.
        way_out: the end of a sentence, naming the key or option that gave the path.

    Raises:
        UserError: the file is absent or something else.
    """
    answers = read_json(path, way_out)
    if not isinstance(answers, list) or not answers or not all(map(_is_answer, answers)):
        raise UserError(f"{path} must be a JSON list of texts, none of them empty: {way_out}")
    return tuple(answers)


def _is_answer(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
