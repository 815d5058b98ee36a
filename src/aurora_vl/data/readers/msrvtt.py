"""MSRVTT, in its two layouts; clips are `<name>.mp4`.

The original one has all sentences in `MSRVTT_data.json` and lists of videos beside it: training
lists of 9k or 7k videos (where both lie there, the longer is read), and the 1k-A test, one sentence
each of a thousand videos. The other one has joined lines in `train.jsonl` and `test.jsonl`. Numbers
of different splits are not comparable, so the notes name the one that was read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from aurora_vl.data.readers.clips import Clips, read_lines
from aurora_vl.data.readers.files import (
    Entry,
    as_list,
    as_object,
    is_there,
    read_json,
    read_text,
    text_of,
    texts_of,
)
from aurora_vl.data.readers.splitting import complete_splits, join_captions
from aurora_vl.data.records import CaptionedMedia, Splits
from aurora_vl.errors import UserError

_SENTENCES = "MSRVTT_data.json"
_TRAIN_LISTS = ("MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv")
_TEST_LIST = "MSRVTT_JSFUSION_test.csv"


def read_msrvtt(annotations: Path, media: Path, seed: int) -> Splits[CaptionedMedia]:
    """Read the original layout if its sentences are there, else the joined lines.

    Raises:
        UserError: neither is there, or an entry is wrong.
    """
    clips = Clips(media)
    if is_there(annotations / _SENTENCES):
        train, test, note = _read_lists(annotations, clips)
        splits = complete_splits(train, None, test, seed=seed, where=str(annotations))
    else:
        files = read_lines(annotations, clips, f"{_SENTENCES} with its lists")
        splits = complete_splits(*files, seed=seed, where=str(annotations))
        note = "split: MSRVTT as the lists of train.jsonl and test.jsonl have it"
    return replace(splits, notes=(note, *splits.notes))


def _read_lists(
    annotations: Path, clips: Clips
) -> tuple[list[CaptionedMedia], list[CaptionedMedia], str]:
    sentences = _sentences(annotations / _SENTENCES)
    lists = [annotations / name for name in _TRAIN_LISTS]
    present = next((path for path in lists if is_there(path)), None)
    if present is None:
        raise UserError(
            f"{annotations} holds {_SENTENCES} but no {' or '.join(_TRAIN_LISTS)}: put one there"
        )
    test_list = annotations / _TEST_LIST
    train: dict[str, CaptionedMedia] = {}
    tested = []
    for place, row in _rows(present):
        name = text_of(row, "video_id", place)
        if name not in sentences:
            raise UserError(f"{place}: {name} has no sentence in {_SENTENCES}")
        train[name] = clips.record(name, sentences[name])  # once, though a row may be repeated
    for place, row in _rows(test_list):
        name = text_of(row, "video_id", place)
        tested.append(clips.record(name, texts_of(row, "sentence", place)))
    shared = {record.media_id for record in train.values()} & {record.media_id for record in tested}
    if shared:
        raise UserError(
            f"{present} and {test_list.name} share {len(shared)} videos, such as {min(shared)}: "
            "they do not belong together"
        )
    gallery = join_captions(tested)
    size = present.name.split(".")[1]
    note = (
        f"split: MSRVTT {size} training list ({len(train):,} videos), 1k-A test ({len(gallery):,})"
    )
    return join_captions(list(train.values())), gallery, note


def _sentences(path: Path) -> dict[str, tuple[str, ...]]:
    """All sentences of each video, in order."""
    content = as_object(read_json(path), str(path))
    if "sentences" not in content:
        raise UserError(f"{path} has no key 'sentences': it is not MSRVTT's")
    found: dict[str, list[str]] = {}
    for index, row in enumerate(as_list(content["sentences"], f"{path} 'sentences'")):
        place = f"{path} sentence {index}"
        entry = as_object(row, place)
        name = text_of(entry, "video_id", place)
        found.setdefault(name, []).extend(texts_of(entry, "caption", place))
    return {name: tuple(texts) for name, texts in found.items()}


def _rows(path: Path) -> Iterator[tuple[str, Entry]]:
    """(place, row) of a CSV file with a header, in which a row is a line.

    Raises:
        UserError: a line is no CSV by itself, as where a quote is left open, or a comma cuts its
            sentence.
    """
    header: list[str] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        place = f"{path} line {number}"
        try:
            values = next(
                csv.reader([line.removesuffix("\r")], skipinitialspace=True, strict=True), []
            )
        except csv.Error as error:
            raise UserError(
                f"{place} is not valid CSV ({error}): close each double quote on its line, and "
                "write one inside a sentence twice"
            ) from None
        if values and not header:
            header = values
        elif len(values) > len(header):
            raise UserError(
                f"{place} has more values than the header has columns: put the sentence in "
                "double quotes"
            )
        elif values:
            yield place, dict(zip(header, values, strict=False))
