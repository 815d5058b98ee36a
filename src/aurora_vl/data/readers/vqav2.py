"""VQAv2: which of its two annotation layouts lies in the folder, and its reading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import aurora_vl.data.readers.vqav2_blip as vqav2_blip
import aurora_vl.data.readers.vqav2_official as vqav2_official
from aurora_vl.data.readers.question_splits import SplitChoice, question_splits
from aurora_vl.data.records import QuestionRecord, Splits
from aurora_vl.errors import UserError


def read_vqav2(
    annotations: Path, media: Path, seed: int, choice: SplitChoice
) -> Splits[QuestionRecord]:
    """Read the official files if any of them is there, else BLIP's; scored is val by default."""
    for layout in (vqav2_official, vqav2_blip):
        if layout.present(annotations):
            files = layout.read(annotations, media)
            splits = question_splits(
                files.train,
                files.val,
                {"test-dev": files.test_dev, "test": files.test},
                choice=choice,
                seed=seed,
                where=str(annotations),
            )
            return replace(splits, answer_list=files.answer_list)
    raise UserError(
        f"{annotations} holds neither {vqav2_official.questions_file('train2014')} (the official "
        "layout) nor vqa_train.json (BLIP's): put one of them there or correct data.annotations"
    )
