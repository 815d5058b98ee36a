"""Visual Genome's questions in BLIP's layout, `vg_qa.json`: more training data for VQAv2.

Each has one answer, weighs less in the loss (`objective.visual_genome_weight`), and is no vote for
the commonest answers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aurora_vl.data.readers.vqav2_blip import read_questions
from aurora_vl.data.records import QuestionRecord

SOURCE = "vg"
"""What `QuestionRecord.source` is for these questions."""


def read(annotations: Path, media: Path) -> list[QuestionRecord]:
    """Read the file.

    Args:
        annotations: the folder it lies in.
        media: Visual Genome's pictures, which its paths are relative to.

    Returns:
        Records whose ids begin with "vg", so that none is VQAv2's.

    Raises:
        UserError: the file is absent or an entry is wrong.
    """
    found = read_questions(annotations / "vg_qa.json", media, SOURCE)
    return [replace(r, question_id=f"{SOURCE}{r.question_id}", source=SOURCE) for r in found]
