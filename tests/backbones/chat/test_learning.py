"""A tiny chat model learns 64 questions by heart, and Aurora moves it to another answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from PIL import Image
from torch import nn

from aurora_vl.backbones.base import PreparationSettings
from aurora_vl.backbones.families import family_by_name, load
from aurora_vl.objectives.answering import AnsweringSettings, QuestionAnsweringTask
from aurora_vl.tuner.config import AuroraConfig

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "white": (255,) * 3}
QUESTIONS = ("what color is the box", "what color is the star")


def sixty_four(shift: int) -> list[tuple[Image.Image, str, str]]:
    """Pictures of two colours, left and right, a question for each of two sizes.

    Args:
        shift: how many places further in the list of colours the answers are.
    """
    names = list(COLOURS)
    found = []
    for number in range(64):
        left, right = number % 4, number // 4 % 4
        pixels = np.zeros((32, 32 + number // 32 * 8, 3), dtype=np.uint8)
        pixels[:, :16], pixels[:, 16:] = COLOURS[names[left]], COLOURS[names[right]]
        side = number // 16 % 2
        answer = names[((left, right)[side] + shift) % 4]
        found.append((Image.fromarray(pixels), QUESTIONS[side], answer))
    return found


class Pupil:
    """A model that learns questions with their pictures in one batch."""

    def __init__(self, folder: str, shift: int) -> None:
        self.family = family_by_name(folder)
        self.model: nn.Module = load(folder, task="vqa")
        self.processor = self.family.tokenizer(folder)
        self.ask(shift)

    def ask(self, shift: int) -> None:
        prepare = self.family.preprocessor(self.model, self.processor, PreparationSettings())
        rows = sixty_four(shift)
        collated = prepare.collate([prepare.image(picture) for picture, _, _ in rows])
        self.media = prepare.finish(collated, torch.device("cpu"), torch.float32)
        self.questions = prepare.texts([question for _, question, _ in rows], "question")
        self.answers = prepare.texts([answer for _, _, answer in rows], "answer")
        self.candidates = prepare.texts(list(COLOURS), "answer")
        self.right = torch.tensor([list(COLOURS).index(answer) for _, _, answer in rows])

    def learn(self, rate: float, most: int) -> float:
        """Train until all is right; the share that is."""
        answering = self.family.answer_model(self.model, self.processor)
        task = QuestionAnsweringTask(answering, AnsweringSettings(label_smoothing=0.0))
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
        batch: dict[str, Any] = {
            "media": self.media,
            "questions": self.questions,
            "answers": self.answers,
            "answer_counts": torch.ones(64, dtype=torch.long),
            "answer_weights": torch.ones(64),
        }
        for _ in range(most):
            loss = task(**batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            if loss.item() < 0.05:
                break
        return self.share()

    @torch.no_grad()
    def share(self) -> float:
        answering = self.family.answer_model(self.model, self.processor)
        media = answering.encode_media(self.media)
        context = answering.prepare(media, self.questions, range(64))
        best = answering.rank(context, self.candidates, 4).candidates[:, 0]
        return (best == self.right).float().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["smolvlm", "qwen3_vl"])
def test_sixty_four_questions_by_heart(kind: str, tiny: Callable[[str], Path]) -> None:
    torch.manual_seed(0)
    pupil = Pupil(str(tiny(kind)), shift=0)
    assert pupil.learn(2e-3, 400) == 1.0
    pupil.ask(1)
    before = pupil.share()
    pupil.model = get_peft_model(pupil.model, AuroraConfig(r=8))
    assert pupil.share() == before
    after = pupil.learn(1e-2, 400)
    assert after - before >= 0.9 * (1.0 - before)
