"""One question about one file, answered by a backbone with or without an adapter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aurora_vl.backbones.blip.loading import MINI, load_tokenizer
from aurora_vl.data.media import kind_of_file
from aurora_vl.data.readers.vqav2_blip import read_answer_list
from aurora_vl.data.records import QuestionRecord
from aurora_vl.data.text import is_blank
from aurora_vl.errors import UserError
from aurora_vl.evaluation.answering import AnsweringPlan, answer_questions
from aurora_vl.inference.loading import load_tuned
from aurora_vl.inference.settings import TrainedAt, trained_at


def answer_about(
    media: Path,
    question: str,
    *,
    backbone: str | None = None,
    adapter: Path | None = None,
    answers: Path | None = None,
) -> dict[str, Any]:
    """Answer a question about a picture or a video.

    With an adapter the image size, the words of a question that are kept, and of a video the number
    of frames, are those of the recipe beside it, if there is one.

    Args:
        media: the file; its name's ending tells a video from a picture.
        question: in words.
        backbone: as for `modeling.load.load`; None for the one the adapter was trained on, which is
            the adapter's folder itself if it holds a whole model, and without an adapter the
            bundled one.
        adapter: what train wrote; None for the backbone alone.
        answers: a JSON list of texts to choose from; None to write an answer freely.

    Returns:
        `answer`, its `log_likelihood`, and what was asked of which file.

    Raises:
        UserError: the file, the question, the adapter or the backbone is of no use.
    """
    if is_blank(question):
        raise UserError(f"the question {question!r} has no words; ask something.")
    try:
        question.encode()
    except UnicodeEncodeError:  # from bytes of another encoding, or an escape of half a character
        raise UserError(f"the question {question!r} is not UTF-8 text; write it anew.") from None
    record = QuestionRecord(0, str(media), media, kind_of_file(media), question, ())
    trained = TrainedAt() if adapter is None else trained_at(adapter)
    if answers is None:
        plan = AnsweringPlan(inference="generate")
    else:
        plan = AnsweringPlan(candidates=read_answer_list(answers, "check --answers"))
    plan = replace(
        plan,
        frames=trained.frames or plan.frames,
        max_words=trained.max_words or plan.max_words,
    )
    name = backbone or _trained_on(adapter)
    model = load_tuned(name, adapter, "vqa", trained.image_size)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    (found,) = answer_questions(model, load_tokenizer(name), [record], plan)
    return {
        "media": str(media),
        "question": question,
        "answer": found.answer,
        "log_likelihood": found.log_likelihood,
    }


def _trained_on(adapter: Path | None) -> str:
    """The backbone that an adapter's folder names or, tuned fully, is; the bundled one if none."""
    if adapter is None:
        return MINI
    file = adapter / "adapter_config.json"
    if not file.is_file():
        return str(adapter) if (adapter / "config.json").is_file() else MINI
    try:
        return json.loads(file.read_text()).get("base_model_name_or_path") or MINI
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); give the folder that train wrote."
        ) from None
