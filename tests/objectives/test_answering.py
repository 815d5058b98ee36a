"""Question answering: the loss against plain loops, ranking, and both ways to answer agreeing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from tiny_blip import SIZE, fill, tiny_config, tiny_model
from torch import Tensor, nn

from aurora_vl.backbones import likelihood
from aurora_vl.backbones.base import RankedAnswers, TextInputs
from aurora_vl.backbones.blip.answer_model import BlipAnswerModel
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, CrossKeys
from aurora_vl.backbones.likelihood import answer_losses
from aurora_vl.errors import UserError
from aurora_vl.objectives.answering import AnsweringSettings, QuestionAnsweringTask
from aurora_vl.objectives.presets import switches
from aurora_vl.tuner.config import AuroraConfig

SEP, DEC = 3, 4
COUNTS = [2, 1, 3]
ANSWERS = [[7], [8, 9], [10], [7, 8, 11], [12], [9]]  # those of the first question, and so on
WEIGHTS = [0.7, 0.3, 1.0, 0.2, 0.2, 0.6]
CANDIDATES = [[7], [7, 9], [10, 11], [7, 8, 12], [13], [14, 7]]


def padded(answers: list[list[int]], extra: int = 0) -> tuple[Tensor, Tensor]:
    """Ids with [DEC] and [SEP], and their mask."""
    rows = [[DEC, *answer, SEP] for answer in answers]
    length = max(map(len, rows)) + extra
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])


@pytest.fixture
def model() -> Any:
    backbone = BlipForQuestionAnswering(tiny_config()).double()
    fill(backbone)
    return backbone.eval()


@pytest.fixture
def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)


@pytest.fixture
def questions() -> tuple[Tensor, Tensor]:
    ids = torch.tensor([[2, 9, 10, 11, 3], [2, 12, 3, 0, 0], [2, 13, 14, 3, 0]])
    return ids, (ids > 0).long()


def given(pixels: Tensor, questions: tuple[Tensor, Tensor], extra: int = 0) -> dict[str, Any]:
    ids, mask = padded(ANSWERS, extra)
    blank = torch.zeros(len(pixels), extra, dtype=torch.long)
    asked, asked_mask = (torch.cat([each, blank], 1) for each in questions)
    return {
        "media": {"pixel_values": pixels},
        "questions": {"input_ids": asked, "attention_mask": asked_mask},
        "answers": {"input_ids": ids, "attention_mask": mask},
        "answer_counts": torch.tensor(COUNTS),
        "answer_weights": torch.tensor(WEIGHTS, dtype=torch.float64),
    }


def make_task(model: nn.Module, **settings: Any) -> QuestionAnsweringTask:
    return QuestionAnsweringTask(BlipAnswerModel(model), AnsweringSettings(**settings))


def plain_losses(
    model: Any, pixels: Tensor, ids: Tensor, answer: list[int], share: float
) -> Tensor:
    """One answer's loss, a token at a time, without any padding."""
    states = model.encode_question(pixels[None], ids[ids > 0][None])
    keys = model.question_keys(states)
    total = torch.zeros((), dtype=torch.float64)
    for place, target in enumerate([*answer, SEP]):
        seen = torch.tensor([[DEC, *answer][: place + 1]])
        scores = model.answer_logits(seen, None, keys)[0, -1].log_softmax(0)
        total = total - (1 - share) * scores[target] - share * scores.mean()
    return total


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_loss_is_the_weighted_sum_per_question(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor], share: float
) -> None:
    owners = [0, 0, 1, 2, 2, 2]
    expected = sum(
        weight * plain_losses(model, pixels[owner], questions[0][owner], answer, share)
        for owner, answer, weight in zip(owners, ANSWERS, WEIGHTS, strict=True)
    )
    task = make_task(model, label_smoothing=share).train()
    losses = task(**given(pixels, questions))
    assert list(losses) == ["loss"]
    torch.testing.assert_close(losses["loss"], expected / 3, rtol=1e-10, atol=0)


def test_questions_about_one_picture_share_its_encoding(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    """Two questions about the first picture and one about the second: the same as one by one."""
    task = make_task(model)
    apart = given(pixels[[0, 0, 1]], questions)
    together = apart | {
        "media": {"pixel_values": pixels[:2]},
        "question_counts": torch.tensor([2, 1]),
    }
    losses, gradients = [], []
    for batch in (apart, together):
        task.zero_grad()
        losses.append(task(**batch)["loss"])
        losses[-1].backward()
        gradients.append({name: p.grad.clone() for name, p in task.named_parameters()})
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


def test_padding_changes_nothing(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    task = make_task(model)
    losses = [task(**given(pixels, questions, extra))["loss"] for extra in (0, 4)]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)


def test_a_video_of_one_frame_is_a_picture(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    task = make_task(model)
    picture, video = (
        task(**given(values, questions))["loss"] for values in (pixels, pixels[:, None])
    )
    torch.testing.assert_close(picture, video, rtol=1e-12, atol=0)


def test_only_the_released_loss_is_divided_by_the_frames(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    video = torch.stack([pixels, -pixels], 1)
    ours, released, picture, halved = (
        QuestionAnsweringTask(
            BlipAnswerModel(model),
            switches("default", divide_by_frames=divide).answering(frames),
        )(**given(values, questions))["loss"]
        for values, frames, divide in (
            (video, 2, False),
            (video, 2, True),
            (pixels, 1, False),
            (pixels, 1, True),
        )
    )
    torch.testing.assert_close(ours, 2 * released, rtol=1e-12, atol=0)
    torch.testing.assert_close(picture, halved, rtol=1e-12, atol=0)
    assert not torch.isclose(ours, picture)


def test_every_frame_is_looked_at(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    """The question reads the patches of all frames behind each other."""
    video = torch.stack([pixels, -pixels], 1)
    states = torch.cat([model.vision_model(pixels), model.vision_model(-pixels)], 1)
    torch.testing.assert_close(
        model.encode_question(video, *questions), model.encode_question(states, *questions)
    )


def test_the_order_of_frames_says_nothing(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    """What only their order tells, such as a direction, cannot be answered (docs/method.md)."""
    video = torch.stack([pixels, -pixels, pixels / 2], 1)
    torch.testing.assert_close(
        model.encode_question(video.flip(1), *questions), model.encode_question(video, *questions)
    )


def test_an_adapter_is_trained_in_encoders_and_decoder(
    model: nn.Module, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    adapted = get_peft_model(model, AuroraConfig(r=4, init_weights=False))
    task = make_task(adapted)
    task(**given(pixels, questions))["loss"].backward()
    trained = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    assert any("text_decoder" in name for name in trained)
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.any()] == []


def ranked(model: Any, keys: CrossKeys, *, top: int, extra: int = 0) -> RankedAnswers:
    ids, mask = padded(CANDIDATES, extra=extra)
    candidates = TextInputs(input_ids=ids, attention_mask=mask)
    with torch.no_grad():
        return BlipAnswerModel(model).rank(keys, candidates, top)


@pytest.mark.parametrize("numbers_at_once", [1, 2**26])
def test_the_whole_list_is_ranked_by_likelihood(
    model: Any,
    pixels: Tensor,
    questions: tuple[Tensor, Tensor],
    numbers_at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(likelihood, "_LOGITS_AT_ONCE", numbers_at_once)
    states = model.encode_question(pixels, *questions)
    keys = model.question_keys(states, questions[1])
    candidates, scores = ranked(model, keys, top=99, extra=2)
    for row in range(3):
        expected = torch.stack(
            [-plain_losses(model, pixels[row], questions[0][row], c, 0.0) for c in CANDIDATES]
        )
        assert candidates[row].tolist() == expected.argsort(descending=True).tolist()
        torch.testing.assert_close(scores[row], expected[candidates[row]], rtol=1e-10, atol=0)


def test_the_first_token_chooses_who_is_ranked(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    """Three of the six begin alike: then the list's order decides who comes in."""
    keys = model.question_keys(model.encode_question(pixels, *questions), questions[1])
    start = torch.full((3, 1), DEC)
    likely = model.answer_logits(start, None, keys)[:, 0]
    for top in range(1, 6):
        candidates = ranked(model, keys, top=top).candidates
        for row in range(3):
            order = sorted(range(6), key=lambda c: (-likely[row, CANDIDATES[c][0]].item(), c))
            assert sorted(candidates[row].tolist()) == sorted(order[:top])


def test_both_ways_give_an_answer_the_same_score(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    out = model.generate(
        pixels, *questions, max_new_tokens=4, return_dict_in_generate=True, output_logits=True
    )
    chosen = out.sequences[:, 1:]
    scores = torch.stack(out.logits, 1).double().log_softmax(2)  # kept in float32 until here
    steps = scores.gather(2, chosen[:, :, None])[:, :, 0]
    ended = (chosen == SEP).cumsum(1) - (chosen == SEP).long()
    generated = (steps * (ended == 0)).sum(1)
    mask = torch.cat([torch.ones(3, 1, dtype=torch.long), (ended == 0).long()], 1)
    keys = model.question_keys(model.encode_question(pixels, *questions), questions[1])
    logits = model.answer_logits(out.sequences, mask, keys)
    ranked = -answer_losses(logits, out.sequences, mask)
    torch.testing.assert_close(ranked, generated, rtol=1e-5, atol=0)


def test_only_the_released_generation_attends_to_padding(
    model: Any, pixels: Tensor, questions: tuple[Tensor, Tensor]
) -> None:
    ours, released = (
        model.generate(
            pixels,
            *questions,
            max_new_tokens=1,
            attend_padding=attend,
            return_dict_in_generate=True,
            output_logits=True,
        ).logits[0]
        for attend in (False, True)
    )
    full = questions[1].all(1)
    torch.testing.assert_close(ours[full], released[full])
    assert not torch.isclose(ours[~full], released[~full]).all(1).any()


def test_mistakes_are_named(model: Any) -> None:
    with pytest.raises(UserError, match=r"label_smoothing is 1\.5"):
        AnsweringSettings(label_smoothing=1.5)
    with pytest.raises(TypeError, match="BlipForRetrieval is no question answering backbone"):
        BlipAnswerModel(tiny_model())


def test_a_step_asks_no_tensor_for_its_value(model: Any) -> None:
    """On shapes alone, reading a value is an error, as it would wait on a GPU."""
    task = make_task(model.train()).to("meta")
    asked = torch.ones(2, 5, dtype=torch.long, device="meta")
    told = torch.ones(3, 4, dtype=torch.long, device="meta")
    media, questions, answers = (
        {"pixel_values": torch.zeros(2, 3, SIZE, SIZE, dtype=torch.float64, device="meta")},
        {"input_ids": asked, "attention_mask": asked},
        {"input_ids": told, "attention_mask": told},
    )
    counts = torch.zeros(2, dtype=torch.long, device="meta")
    weights = torch.ones(3, dtype=torch.float64, device="meta")
    loss = task(media, questions, answers, counts, weights)["loss"]
    loss.backward()
    assert loss.shape == ()
