"""VQAv2's official layout: questions and annotations of train2014 and val2014, test questions.

As in the original the answers of the test splits are not there, so val2014 is what is scored: it
shows the spec's test scenes, and the test splits its validation scenes. All ten annotators agree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aurora_vl.data.synthetic.contents import asked
from aurora_vl.data.synthetic.files import write_picture
from aurora_vl.data.synthetic.questions import Question
from aurora_vl.data.synthetic.scenes import Split
from aurora_vl.data.synthetic.spec import WorldSpec

_SPLITS: dict[str, Split] = {"train2014": "train", "val2014": "test", "test2015": "val"}
_FIRST = {"train2014": 1, "val2014": 1_000_001, "test2015": 2_000_001}  # image ids
_ANNOTATORS = 10
_TYPES = {"yes/no": "yes/no", "count": "number"}  # of answers; others are "other"


def write(folder: Path, spec: WorldSpec) -> None:
    """Write pictures, questions and annotations; test-dev2015 is the first half of test2015."""
    annotations = folder / "annotations"
    annotations.mkdir()
    for name, split in _SPLITS.items():
        pictures = folder / "images" / name
        pictures.mkdir(parents=True)
        rows: list[dict[str, Any]] = []
        told: list[dict[str, Any]] = []
        for image, (scene, found) in enumerate(asked(spec, split), start=_FIRST[name]):
            write_picture(pictures / f"COCO_{name}_{image:012d}.jpg", scene, spec)
            for number, question in enumerate(found):
                identity = image * 1000 + number
                rows.append(
                    {"image_id": image, "question": question.question, "question_id": identity}
                )
                told.append(_annotation(identity, image, question))
        _write_questions(annotations, name, rows)
        if name == "test2015":
            _write_questions(annotations, "test-dev2015", rows[: (len(rows) + 1) // 2])
        else:
            content = {**_head(name), "annotations": told}
            _write(annotations / f"v2_mscoco_{name}_annotations.json", content)


def _write_questions(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    head = {**_head(split), "task_type": "Open-Ended"}
    _write(folder / f"v2_OpenEnded_mscoco_{split}_questions.json", {**head, "questions": rows})


def _head(split: str) -> dict[str, Any]:
    """What the official loader asks of a file beside its rows."""
    return {
        "info": {"description": f"Generated questions in the layout of VQA v2.0, {split}"},
        "license": {"name": "Apache License 2.0"},
        "data_type": "mscoco",
        "data_subtype": split,
    }


def _annotation(identity: int, image: int, question: Question) -> dict[str, Any]:
    said = {"answer": question.answer, "answer_confidence": "yes"}
    return {
        "question_id": identity,
        "image_id": image,
        "question_type": question.question_type,
        "answer_type": _TYPES.get(question.question_type, "other"),
        "multiple_choice_answer": question.answer,
        "answers": [{**said, "answer_id": number} for number in range(1, _ANNOTATORS + 1)],
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=0) + "\n")
