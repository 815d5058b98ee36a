"""Chat models behind the seam against transformers' own: losses, ranking, writing, batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import get_peft_model
from PIL import Image
from tiny_chat_models import KINDS
from torch import Tensor

from aurora_vl.backbones.base import PreparationSettings, TextInputs
from aurora_vl.backbones.chat.answer_model import ChatAnswerModel
from aurora_vl.backbones.chat.preparation import ChatPreprocessor
from aurora_vl.backbones.families import family_by_name, load
from aurora_vl.errors import UserError
from aurora_vl.objectives.answering import AnsweringSettings, QuestionAnsweringTask
from aurora_vl.tuner.config import AuroraConfig

QUESTIONS = ["what color is the box", "how many stars are there in the picture", "is it red"]
ANSWERS = ["red", "yes", "two stars", "red box"]
Tiny = Callable[[str], Path]


class Loaded(NamedTuple):
    """A tiny model in float64 and what prepares for it."""

    model: Any
    prepare: ChatPreprocessor
    answering: ChatAnswerModel

    def media(self, pictures: list[Image.Image]) -> dict[str, Tensor]:
        items = [self.prepare.image(picture) for picture in pictures]
        return self.prepare.finish(self.prepare.collate(items), torch.device("cpu"), torch.float64)

    def texts(self, texts: list[str], role: Any) -> TextInputs:
        return self.prepare.texts(texts, role)


@pytest.fixture(params=KINDS)
def loaded(request: pytest.FixtureRequest, tiny: Tiny) -> Loaded:
    return loaded_kind(str(tiny(request.param)))


def loaded_kind(folder: str) -> Loaded:
    family = family_by_name(folder)
    model = load(folder, task="vqa", dtype=torch.float64)
    processor = family.tokenizer(folder)
    prepare = family.preprocessor(model, processor, PreparationSettings(frames=2))
    assert isinstance(prepare, ChatPreprocessor)
    answering = family.answer_model(model, processor)
    assert isinstance(answering, ChatAnswerModel)
    return Loaded(model, prepare, answering)


def whole(loaded: Loaded, pictures: list[Image.Image], question: str, answer: str) -> Any:
    """A conversation by the chat template in one piece, as transformers' users prepare it."""
    content = [{"type": "image"}] * len(pictures) + [{"type": "text", "text": question}]
    processor = loaded.prepare.processor
    told = [{"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    text = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}, *(told if answer else [])],
        chat_template=processor.chat_template,
        add_generation_prompt=not answer,
        tokenize=False,
    )
    inputs = processor(text=[text], images=[pictures], return_tensors="pt")
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def their_loss(loaded: Loaded, picture: Image.Image, question: str, answer: str) -> Tensor:
    """The negative log-likelihood of an answer and its end by transformers' own forward."""
    inputs = whole(loaded, [picture], question, answer)
    count = whole(loaded, [picture], question, "")["input_ids"].shape[1]
    words = loaded.texts([answer], "answer")["input_ids"][0, 1:]
    with torch.no_grad():
        logits = loaded.model(**inputs).logits[0].log_softmax(-1)
    assert inputs["input_ids"][0, count : count + len(words)].tolist() == words.tolist()
    places = torch.arange(count - 1, count - 1 + len(words))
    return -logits[places, words].sum()


def test_losses_are_those_of_transformers(loaded: Loaded, pictures: list[Image.Image]) -> None:
    """Pictures of several sizes, questions and answers of several lengths, in one batch."""
    asked = [(0, 0), (0, 1), (1, 2), (2, 0)]
    told = [(0, 0), (0, 2), (1, 1), (2, 3), (3, 2), (3, 0)]
    losses = loaded.answering.answer_losses(
        loaded.media(pictures),
        loaded.texts([QUESTIONS[question] for _, question in asked], "question"),
        torch.tensor([medium for medium, _ in asked]),
        loaded.texts([ANSWERS[answer] for _, answer in told], "answer"),
        torch.tensor([question for question, _ in told]),
        0.0,
    )
    for loss, (question, answer) in zip(losses, told, strict=True):
        medium, text = asked[question]
        expected = their_loss(loaded, pictures[medium], QUESTIONS[text], ANSWERS[answer])
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_ranking_gives_the_same_likelihoods(loaded: Loaded, pictures: list[Image.Image]) -> None:
    media = loaded.answering.encode_media(loaded.media(pictures))
    owners = [0, 1, 1]
    context = loaded.answering.prepare(media, loaded.texts(QUESTIONS, "question"), owners)
    found = loaded.answering.rank(context, loaded.texts(ANSWERS, "answer"), 99)
    for row, owner in enumerate(owners):
        expected = torch.stack(
            [-their_loss(loaded, pictures[owner], QUESTIONS[row], answer) for answer in ANSWERS]
        )
        assert found.candidates[row].tolist() == expected.argsort(descending=True).tolist()
        torch.testing.assert_close(
            found.log_likelihoods[row], expected.sort(descending=True).values, rtol=1e-6, atol=0
        )


@torch.no_grad()
def test_what_is_written_is_what_transformers_writes(
    loaded: Loaded, pictures: list[Image.Image]
) -> None:
    """In a batch with a cache as one by one without one, and scored as when ranked."""
    media = loaded.answering.encode_media(loaded.media(pictures))
    context = loaded.answering.prepare(media, loaded.texts(QUESTIONS, "question"), [0, 1, 2])
    ids, scores = loaded.answering.generate(context, 1, 6)
    end = loaded.answering.end
    for row, picture in enumerate(pictures):
        inputs = whole(loaded, [picture], QUESTIONS[row], "")
        theirs = loaded.model.generate(
            **inputs,
            max_new_tokens=6,
            do_sample=False,
            use_cache=False,
            eos_token_id=end,
            pad_token_id=0,
        )[0, inputs["input_ids"].shape[1] :]
        words = [token for token in theirs.tolist() if token not in (0, end)]
        assert [token for token in ids[row].tolist() if token] == words
        start = loaded.texts(["red"], "answer")["input_ids"][0, 0]
        told = torch.cat([start[None], theirs])[None]
        alone = TextInputs(input_ids=told, attention_mask=torch.ones_like(told))
        one = context.select(torch.tensor([row]))
        ranked = loaded.answering.rank(one, alone, 1).log_likelihoods[0, 0]
        torch.testing.assert_close(scores[row].double(), ranked, rtol=1e-6, atol=1e-5)


@torch.no_grad()
def test_a_batch_equals_one_by_one(loaded: Loaded, pictures: list[Image.Image]) -> None:
    questions, answers = loaded.texts(QUESTIONS, "question"), loaded.texts(ANSWERS, "answer")
    together = loaded.answering.rank(
        loaded.answering.prepare(
            loaded.answering.encode_media(loaded.media(pictures)), questions, [0, 1, 2]
        ),
        answers,
        99,
    )
    for row, picture in enumerate(pictures):
        media = loaded.answering.encode_media(loaded.media([picture]))
        alone = loaded.answering.prepare(media, loaded.texts([QUESTIONS[row]], "question"), [0])
        found = loaded.answering.rank(alone, answers, 99)
        assert found.candidates[0].tolist() == together.candidates[row].tolist()
        torch.testing.assert_close(
            found.log_likelihoods[0], together.log_likelihoods[row], rtol=1e-9, atol=1e-9
        )


@torch.no_grad()
def test_frames_are_pictures(loaded: Loaded, pictures: list[Image.Image]) -> None:
    frames = [picture.resize((48, 36)) for picture in pictures[:2]]
    item = loaded.prepare.video(frames)
    media = loaded.prepare.finish(
        loaded.prepare.collate([item, item]), torch.device("cpu"), torch.float64
    )
    context = loaded.answering.prepare(
        loaded.answering.encode_media(media), loaded.texts(QUESTIONS[:2], "question"), [0, 1]
    )
    ids, _ = loaded.answering.generate(context, 1, 4)
    inputs = {**item, "pixel_values": item["pixel_values"].double()}
    asked = loaded.texts(QUESTIONS[1:2], "question")["input_ids"]
    inputs["input_ids"] = torch.cat([item["input_ids"], asked], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in item:
        kinds = item["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(asked)], dim=1)
    with torch.no_grad():
        theirs = loaded.model.generate(
            **inputs,
            max_new_tokens=4,
            do_sample=False,
            eos_token_id=loaded.answering.end,
            pad_token_id=0,
        )[0, inputs["input_ids"].shape[1] :]
    end = loaded.answering.end
    assert [t for t in ids[1].tolist() if t] == [t for t in theirs.tolist() if t not in (0, end)]


def test_every_targeted_parameter_learns_and_no_other(
    loaded: Loaded, pictures: list[Image.Image]
) -> None:
    torch.manual_seed(0)
    tuned = get_peft_model(loaded.model, AuroraConfig(r=4)).double()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "aurora" in name:
                parameter.normal_(std=0.3)
    before = {name: p.detach().clone() for name, p in tuned.named_parameters()}
    task = QuestionAnsweringTask(
        ChatAnswerModel(tuned, loaded.answering.end, 0), AnsweringSettings()
    ).train()
    loss = task(
        media=loaded.media(pictures),
        questions=loaded.texts(QUESTIONS, "question"),
        answers=loaded.texts(ANSWERS, "answer"),
        answer_counts=torch.tensor([2, 1, 1]),
        answer_weights=torch.tensor([0.5, 0.5, 1.0, 1.0]),
    )["loss"]
    loss.backward()
    trained = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
    assert trained
    assert all("aurora" in name for name in trained)
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.any()] == []
    torch.optim.SGD(tuned.parameters(), lr=0.1).step()
    changed = {n for n, p in tuned.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(trained)


def test_layers_computed_again_change_nothing(loaded: Loaded, pictures: list[Image.Image]) -> None:
    from aurora_vl.backbones.gradient_checkpointing import recompute_layers

    def gradients() -> list[Tensor]:
        loaded.model.zero_grad()
        losses = loaded.answering.answer_losses(
            loaded.media(pictures),
            loaded.texts(QUESTIONS, "question"),
            None,
            loaded.texts(ANSWERS[:3], "answer"),
            torch.arange(3),
            0.0,
        )
        losses.sum().backward()
        return [p.grad.clone() for p in loaded.model.parameters() if p.grad is not None]

    loaded.model.train()
    plain = gradients()
    recompute_layers(loaded.model, ["vision", "text"])
    again = gradients()
    assert len(plain) == len(again)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_more_than_one_beam_is_refused(tiny: Tiny, pictures: list[Image.Image]) -> None:
    loaded = loaded_kind(str(tiny("smolvlm")))
    media = loaded.answering.encode_media(loaded.media(pictures[:1]))
    context = loaded.answering.prepare(media, loaded.texts(QUESTIONS[:1], "question"), [0])
    with pytest.raises(UserError, match=r"set evaluation\.beams to 1"):
        loaded.answering.generate(context, 3, 4)
