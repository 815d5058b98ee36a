"""MSRVTT-QA: `{train,val,test}_qa.json`, or jsonl files of the same content.

Videos are `video<number>.mp4`, or of another ending where they were converted. The kind of a
question, which scores are given by, is the `answer_type` where a row has one, else its first word
(what, who, how, when, where).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aurora_vl.data.readers.clips import Clips
from aurora_vl.data.readers.files import (
    Entry,
    as_list,
    as_object,
    is_there,
    question_of,
    read_json,
    read_json_lines,
    text_of,
)
from aurora_vl.data.readers.question_splits import SplitChoice, question_splits
from aurora_vl.data.records import QuestionRecord, Splits
from aurora_vl.errors import UserError

_SPLITS = ("train", "val", "test")
_NAMES = ("{}_qa.json", "{}_qa.jsonl", "{}.jsonl")


def read_msrvtt_qa(
    annotations: Path, media: Path, seed: int, choice: SplitChoice
) -> Splits[QuestionRecord]:
    """Read the three files, in whichever of their forms they are there.

    Raises:
        UserError: the training file is absent, or an entry is wrong.
    """
    files = {split: _file(annotations, split) for split in _SPLITS}
    clips = Clips(media)
    train, val, test = (_read(path, clips) if path else None for path in files.values())
    if train is None:
        names = " or ".join(name.format("train") for name in _NAMES)
        raise UserError(f"{annotations} holds no {names}: put it there or correct data.annotations")
    return question_splits(
        train, val, {"test": test}, choice=choice, seed=seed, where=str(annotations)
    )


def _file(annotations: Path, split: str) -> Path | None:
    found = (annotations / name.format(split) for name in _NAMES)
    return next((path for path in found if is_there(path)), None)


def _read(path: Path, clips: Clips) -> list[QuestionRecord]:
    records: dict[int | str, QuestionRecord] = {}
    for number, (place, entry) in enumerate(_rows(path)):
        identity = entry.get("id", entry.get("question_id", number))
        if isinstance(identity, bool) or not isinstance(identity, int | str):
            raise UserError(f"{place}: 'id' must be a whole number or text")
        if identity in records:
            raise UserError(f"{place}: the id {identity!r} occurs twice")
        name = clips.file(_video(entry, place))
        question = question_of(entry, place)
        kind = str(entry.get("answer_type") or question.split()[0].lower())
        answers = (text_of(entry, "answer", place),)
        records[identity] = QuestionRecord(
            identity, name, clips.media / name, "video", question, answers, question_type=kind
        )
    return list(records.values())


def _rows(path: Path) -> Iterator[tuple[str, Entry]]:
    if path.suffix == ".jsonl":
        yield from read_json_lines(path)
        return
    for index, row in enumerate(as_list(read_json(path), str(path))):
        place = f"{path} entry {index}"
        yield place, as_object(row, place)


def _video(entry: Entry, place: str) -> str:
    """The name of the video, "video12" for 12 and for "video12"."""
    value = entry.get("video_id")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"video{value}"
    return text_of(entry, "video_id", place)
