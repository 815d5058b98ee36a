"""What a demo's report shows of the test data: captions and what they find, questions and answers.

The even spacing is the whole choice: nobody looks at what was found.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from aurora_vl.data.answers import clean_answer, shares_of_votes
from aurora_vl.data.records import CaptionedMedia, QuestionRecord, Record
from aurora_vl.data.video import read_frames
from aurora_vl.demo.report import AnswerExample, Hit, QueryExample, Said

QUERIES = 8
HITS = 5


def examples(records: Sequence[Any], before: Path, after: Path) -> dict[str, Any]:
    """What a `DemoReport` shows of the scored records.

    Args:
        records: captions or questions.
        before: predictions.json without tuning.
        after: the same with it.

    Returns:
        `examples` or `answers`, after the records' kind.
    """
    found = [json.loads(path.read_text()) for path in (before, after)]
    if isinstance(records[0], QuestionRecord):
        told = [[row["answer"] for row in rows] for rows in found]
        return {"answers": answer_examples(records, *told)}
    names = [[row["media"] for row in rows["text_to_media"]] for rows in found]
    return {"examples": query_examples(records, *names)}


def query_examples(
    records: Sequence[CaptionedMedia],
    before: Sequence[Sequence[str]],
    after: Sequence[Sequence[str]],
) -> list[QueryExample]:
    """A few captions with the pictures they find, evenly spaced through all captions.

    Args:
        records: the scored pictures.
        before: for every caption in order the names of the pictures found, best first.
        after: the same after tuning.
    """
    pictures = {record.media_id: record for record in records}
    captions = [(text, record.media_id) for record in records for text in record.captions]
    return [
        QueryExample(
            captions[row][0],
            *(
                [
                    Hit(_shown(pictures[name]), name == captions[row][1])
                    for name in found[row][:HITS]
                ]
                for found in (before, after)
            ),
        )
        for row in _spaced(len(captions))
    ]


def answer_examples(
    records: Sequence[QuestionRecord], before: Sequence[str], after: Sequence[str]
) -> list[AnswerExample]:
    """A few questions with their answers, evenly spaced through all questions.

    Args:
        records: the scored questions.
        before: the answer to each.
        after: the same after tuning.
    """
    return [
        AnswerExample(
            records[row].question,
            _shown(records[row]),
            Counter(records[row].answers).most_common(1)[0][0],
            *(
                Said(said[row], clean_answer(said[row]) in shares_of_votes(records[row]))
                for said in (before, after)
            ),
        )
        for row in _spaced(len(records))
    ]


def _spaced(count: int) -> list[int]:
    """Rows evenly spaced through so many."""
    shown = min(QUERIES, count)
    return [number * count // shown for number in range(shown)]


def _shown(record: Record) -> Path | Image.Image:
    """A picture's file; of a video four frames side by side, two above two."""
    if record.kind == "image":
        return record.path
    frames = read_frames(record.path, 4, window=getattr(record, "window", None))
    width, height = frames[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for number, frame in enumerate(frames):
        sheet.paste(frame, (number % 2 * width, number // 2 * height))
    return sheet
