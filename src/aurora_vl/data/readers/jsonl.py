"""Anyone's own data: a folder with train.jsonl and, if there are any, val.jsonl and test.jsonl.

A line is `{"image" | "video": path, "caption": text or [texts]}` for retrieval, or
`{"image" | "video": path, "question": text, "answer": text or [texts]}` for question answering.
A video's captions may be about a part of it: `"window": [from, to]` in seconds. Other keys are left
alone, so that one file may serve both. Paths are relative to `media`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from aurora_vl.data.readers.files import (
    Entry,
    any_texts_of,
    is_there,
    question_of,
    read_json_lines,
    text_of,
    texts_of,
)
from aurora_vl.data.readers.question_splits import SplitChoice, question_splits
from aurora_vl.data.readers.splitting import complete_splits, join_captions
from aurora_vl.data.records import CaptionedMedia, MediaKind, QuestionRecord, R, Splits, Window
from aurora_vl.errors import UserError

_LONGEST = 1e9  # seconds


def read_captions(annotations: Path, media: Path, seed: int) -> Splits[CaptionedMedia]:
    """Read captions; lines of the same picture, video or part of a video become one record."""
    train, val, test = _read_files(annotations, media, _captions_in)
    return complete_splits(train, val, test, seed=seed, where=str(annotations))


def read_questions(
    annotations: Path, media: Path, seed: int, choice: SplitChoice
) -> Splits[QuestionRecord]:
    """Read questions; `question_id` is taken where given, else it is the line's number.

    Only the test file may lack answers, and then all of them; then it cannot be scored.
    """
    train, val, test = _read_files(annotations, media, _questions_in)
    for name, records in (("train", train), ("val", val)):
        unanswered = next((record for record in records or [] if not record.answers), None)
        if unanswered is not None:
            raise UserError(
                f"{annotations / name}.jsonl: question {unanswered.question_id!r} has no key "
                "'answer': only test.jsonl may leave answers out"
            )
    return question_splits(
        train, val, {"test": test}, choice=choice, seed=seed, where=str(annotations)
    )


def read_media(path: Path) -> Iterator[tuple[str, MediaKind, Window | None]]:
    """Yield the media that one file lists, as it writes their paths; texts are not looked at.

    Raises:
        UserError: a line is wrong, or names no medium.
    """
    for place, entry in read_json_lines(path):
        name, kind = _medium(entry, place)
        yield name, kind, _window(entry, kind, place)


def _read_files(
    annotations: Path, media: Path, read: Callable[[Path, Path], list[R]]
) -> tuple[list[R], list[R] | None, list[R] | None]:
    train, val, test = (annotations / f"{split}.jsonl" for split in ("train", "val", "test"))
    if not is_there(train):
        raise UserError(
            f"{train} does not exist: write one JSON object a line there, such as "
            '{"image": "a.jpg", "caption": "a dog"}, or correct data.annotations'
        )
    return (
        read(train, media),
        read(val, media) if is_there(val) else None,
        read(test, media) if is_there(test) else None,
    )


def _captions_in(path: Path, media: Path) -> list[CaptionedMedia]:
    records: list[CaptionedMedia] = []
    kinds: dict[str, MediaKind] = {}
    for place, entry in read_json_lines(path):
        name, kind = _medium(entry, place)
        if kinds.setdefault(os.path.normpath(name), kind) != kind:
            raise UserError(f"{place}: {name} is listed as an image and as a video: choose one")
        window = _window(entry, kind, place)
        # As addresses of parts are written (Media Fragments): each part is a medium of its own.
        identity = name if window is None else f"{name}#t={','.join(map(_seconds, window))}"
        texts = texts_of(entry, "caption", place)
        records.append(CaptionedMedia(identity, media / name, kind, texts, window))
    return join_captions(records)


def _questions_in(path: Path, media: Path) -> list[QuestionRecord]:
    records: list[QuestionRecord] = []
    seen: set[int | str] = set()
    for place, entry in read_json_lines(path):
        name, kind = _medium(entry, place)
        identity = entry.get("question_id", int(place.rsplit(" ", 1)[1]))
        if isinstance(identity, bool) or not isinstance(identity, int | str):
            raise UserError(f"{place}: 'question_id' must be a whole number or text")
        if identity in seen:
            raise UserError(f"{place}: question_id {identity!r} is taken: give each line its own")
        seen.add(identity)
        question = question_of(entry, place)
        answers = _answers(entry, place) if "answer" in entry else ()
        records.append(QuestionRecord(identity, name, media / name, kind, question, answers))
    return records


def _answers(entry: Entry, place: str) -> tuple[str, ...]:
    """The answers, of which none may be empty."""
    answers = any_texts_of(entry, "answer", place)
    empty = next((answer for answer in answers if not answer.strip()), None)
    if empty is not None:
        raise UserError(f"{place}: 'answer' holds {empty!r}, which has no words")
    return answers


def _window(entry: Entry, kind: MediaKind, place: str) -> Window | None:
    window = entry.get("window")
    if window is None:
        return None
    if kind != "video":
        raise UserError(f"{place} has a 'window', which only videos have")
    if isinstance(window, list) and all(type(second) in (int, float) for second in window):
        start, end = window if len(window) == 2 else (0, 0)
        if 0 <= start < end and start < _LONGEST and not _LONGEST <= end < math.inf:
            return float(start), float(end)
    raise UserError(f"{place}: 'window' must be two ascending numbers of seconds, as [2.5, 7]")


def _seconds(value: float) -> str:
    """With all digits, so that no two moments read the same; 5.0 as 5."""
    return repr(value).removesuffix(".0")


def _medium(entry: Entry, place: str) -> tuple[str, MediaKind]:
    kinds: tuple[MediaKind, ...] = ("image", "video")
    given = [kind for kind in kinds if kind in entry]
    if len(given) != 1:
        found = "both" if given else "neither"
        raise UserError(f"{place} has {found} of the keys 'image' and 'video': write one of them")
    return text_of(entry, given[0], place), given[0]
