"""The mini foundation's answer decoder reads the words that it has written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aurora_vl import load, load_tokenizer
from aurora_vl.backbones.blip.preparation import IMAGE_MEAN, IMAGE_STD
from aurora_vl.data.synthetic.drawing import draw
from aurora_vl.data.synthetic.questions import questions
from aurora_vl.data.synthetic.scenes import sample_scene
from aurora_vl.data.transforms import to_model_input

SCENES = 150


@pytest.fixture(scope="module")
def places() -> tuple[Tensor, list[str], list[str]]:
    """Pictures in the foundation's own style, questions where something is, right answers."""
    rng = np.random.default_rng(7)
    pixels, asked, answers = [], [], []
    for _ in range(SCENES):
        scene = sample_scene(rng, "test")
        for question in questions(scene, rng, 8):
            if question.question_type == "place":
                pixels.append(draw(scene, "flat").transpose(2, 0, 1))
                asked.append(question.question)
                answers.append(question.answer)
                break
    return to_model_input(torch.from_numpy(np.stack(pixels)), IMAGE_MEAN, IMAGE_STD), asked, answers


@pytest.fixture(scope="module")
def answerer() -> tuple[Any, Any]:
    """The model and its tokenizer."""
    return load("mini", task="vqa").eval(), load_tokenizer("mini")


@torch.inference_mode()
def test_the_next_word_depends_on_what_was_written(
    places: tuple[Tensor, list[str], list[str]], answerer: tuple[Any, Any]
) -> None:
    """After "left" an answer ends; after "top" and "bottom" it may go on."""
    (pixels, asked, _), (model, tokenizer) = places, answerer
    batch = tokenizer(asked, padding=True, return_tensors="pt")
    states = model.encode_question(pixels, batch["input_ids"], batch["attention_mask"])
    keys = model.question_keys(states, batch["attention_mask"])

    def ends_after(word: str) -> Tensor:
        start = model.config.text_config.bos_token_id
        ids = torch.tensor([[start, tokenizer.convert_tokens_to_ids(word)]])
        logits = model.answer_logits(ids.expand(len(asked), 2), None, keys)[:, -1]
        return logits.softmax(1)[:, tokenizer.sep_token_id].mean()

    assert ends_after("left") - ends_after("top") > 0.3
    assert ends_after("left") - ends_after("bottom") > 0.3


def test_answers_of_two_words_are_given(
    places: tuple[Tensor, list[str], list[str]], answerer: tuple[Any, Any]
) -> None:
    """Where two words are right, and over all places."""
    (pixels, asked, answers), (model, tokenizer) = places, answerer
    batch = tokenizer(asked, padding=True, return_tensors="pt")
    ids = model.generate(pixels, batch["input_ids"], batch["attention_mask"], max_new_tokens=4)
    told = tokenizer.batch_decode(ids, skip_special_tokens=True)
    right = [said.strip() == answer for said, answer in zip(told, answers, strict=True)]
    longer = [ok for ok, answer in zip(right, answers, strict=True) if " " in answer]
    assert len(longer) >= 10
    assert np.mean(longer) > 0.8
    assert np.mean(right) > 0.8
