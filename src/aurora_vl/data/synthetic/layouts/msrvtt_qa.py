"""MSRVTT-QA: `annotations/{train,val,test}_qa.json`, `videos/video<number>.mp4`."""

from __future__ import annotations

import json
from pathlib import Path

from aurora_vl.data.synthetic.contents import SPLITS, asked
from aurora_vl.data.synthetic.files import write_video
from aurora_vl.data.synthetic.spec import WorldSpec

_FIRST = {"train": 0, "val": 1_000_000, "test": 2_000_000}  # numbers of videos


def write(folder: Path, spec: WorldSpec) -> None:
    """Write videos and, for each split, the list of questions with their answers."""
    annotations = folder / "annotations"
    annotations.mkdir()
    (folder / "videos").mkdir()
    number = 0
    for split in SPLITS:
        rows: list[dict[str, object]] = []
        for video, (scene, found) in enumerate(asked(spec, split, moving=True), _FIRST[split]):
            write_video(folder / "videos" / f"video{video}.mp4", scene, spec)
            for question in found:
                rows.append(
                    {
                        "id": number,
                        "video_id": video,
                        "question": question.question,
                        "answer": question.answer,
                        "answer_type": question.question_type,
                    }
                )
                number += 1
        (annotations / f"{split}_qa.json").write_text(json.dumps(rows, indent=0) + "\n")
