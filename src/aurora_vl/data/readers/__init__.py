"""Readers: one file per annotation layout, chosen by `data.kind`.

`read_retrieval` and `read_questions` are the ways in. Readers take names of media as they are
listed; afterwards names that the disk spells otherwise are found (`aurora_vl.data.names`). Whether
all listed media exist is asked by `aurora_vl.data.media.require_media`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from aurora_vl.data.names import composed
from aurora_vl.data.readers import coco, didemo, jsonl, msrvtt, msrvtt_qa, visual_genome, vqav2
from aurora_vl.data.readers.found_files import find_files
from aurora_vl.data.readers.question_splits import SplitChoice
from aurora_vl.data.records import CaptionedMedia, QuestionRecord, Splits
from aurora_vl.errors import UserError

__all__ = [
    "QUESTION_KINDS",
    "RETRIEVAL_KINDS",
    "SplitChoice",
    "read_questions",
    "read_retrieval",
]

RetrievalReader = Callable[[Path, Path, int], Splits[CaptionedMedia]]
QuestionReader = Callable[[Path, Path, int, SplitChoice], Splits[QuestionRecord]]

RETRIEVAL_KINDS: dict[str, RetrievalReader] = {
    "coco": coco.read_coco,
    "flickr30k": coco.read_flickr30k,
    "msrvtt": msrvtt.read_msrvtt,
    "didemo": didemo.read_didemo,
    "jsonl": jsonl.read_captions,
}
QUESTION_KINDS: dict[str, QuestionReader] = {
    "vqav2": vqav2.read_vqav2,
    "msrvtt-qa": msrvtt_qa.read_msrvtt_qa,
    "jsonl": jsonl.read_questions,
}

_Reader = TypeVar("_Reader")


def read_retrieval(
    kind: str, annotations: str | Path, media: str | Path, *, seed: int
) -> Splits[CaptionedMedia]:
    """Read a retrieval data set.

    Args:
        kind: a key of `RETRIEVAL_KINDS`.
        annotations: the folder with the layout's annotation files.
        media: the folder that the listed paths are relative to.
        seed: for holding out a tenth of the training media where a validation split lacks.

    Raises:
        UserError: names what is wrong, in which file (and line), and the way out.
    """
    reader = _reader_for(kind, RETRIEVAL_KINDS, "captions")
    media = _folder(media, "media")
    return find_files(reader(_folder(annotations, "annotations"), media, seed), media)


def read_questions(
    kind: str,
    annotations: str | Path,
    media: str | Path,
    *,
    seed: int,
    choice: SplitChoice = SplitChoice(),  # noqa: B008 (frozen)
    genome: str | Path | None = None,
) -> Splits[QuestionRecord]:
    """Read a question-answering data set; further arguments and errors as for `read_retrieval`.

    The test split's records may lack answers in the file; then the validation file is scored
    (`Splits.scored` is "val") unless it is trained on.

    Args:
        kind: a key of `QUESTION_KINDS`.
        annotations: as for `read_retrieval`.
        media: as for `read_retrieval`.
        seed: as for `read_retrieval`.
        choice: what is trained on and what is scored.
        genome: Visual Genome's pictures; then the questions of `vg_qa.json`, which lies beside the
            other annotations, are trained on too.
    """
    reader = _reader_for(kind, QUESTION_KINDS, "questions")
    folder = _folder(annotations, "annotations")
    media = _folder(media, "media")
    splits, folders = reader(folder, media, seed, choice), [media]
    if genome is not None:
        folders.append(_folder(genome, "visual_genome"))
        splits = replace(splits, train=[*splits.train, *visual_genome.read(folder, folders[1])])
    return _with_composed_answers(find_files(splits, *folders))


def _with_composed_answers(splits: Splits[QuestionRecord]) -> Splits[QuestionRecord]:
    """All answers in one Unicode form, so that equal ones are equal."""

    def compose(records: list[QuestionRecord]) -> list[QuestionRecord]:
        return [
            record
            if all(map(str.isascii, record.answers))
            else replace(record, answers=tuple(map(composed, record.answers)))
            for record in records
        ]

    answers = tuple(map(composed, splits.answer_list))
    return replace(splits.changed(compose), answer_list=answers)


def _reader_for(kind: str, readers: dict[str, _Reader], what: str) -> _Reader:
    if kind not in readers:
        raise UserError(
            f"data.kind {kind!r} is not known for {what}: choose one of {', '.join(readers)}"
        )
    return readers[kind]


def _folder(path: str | Path, key: str) -> Path:
    path = Path(path)
    if path.is_file():
        raise UserError(f"data.{key} is the file {path}: give the folder that holds it")
    if not path.is_dir():
        raise UserError(f"data.{key} is {path}, which does not exist: give an existing folder")
    return path
