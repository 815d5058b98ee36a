"""A chat template cut where pictures end: what comes before is read once for all questions.

The template is rendered with marks in place of question and answer. Everything up to the last
picture is the prompt of the media alone, which the model's processor expands to one token for each
patch; a picture's last token is a special one, so that cutting there changes no token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from aurora_vl.errors import UserError

_QUESTION, _ANSWER = "QUESTIONMARK", "ANSWERMARK"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The parts of a conversation of one question about some pictures.

    Attributes:
        media: from the beginning to the token that stands for the last picture.
        before_question, after_question: around the question, up to where the answer begins.
        before_answer: what the template writes between the two, such as a blank.
        end: the id of the token behind an answer.
    """

    media: str
    before_question: str
    after_question: str
    before_answer: str
    end: int


def prompt_of(processor: Any, pictures: int) -> Prompt:
    """The parts of a processor's chat template.

    Args:
        processor: of the model, with its tokenizer.
        pictures: how many there are before the question.

    Raises:
        UserError: the template cannot be rendered, or has no place for pictures before a question.
    """
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": _QUESTION}]
    asked = [{"role": "user", "content": content}]
    answer = {"role": "assistant", "content": [{"type": "text", "text": _ANSWER}]}
    try:
        opened = _rendered(processor, asked, add_generation_prompt=True)
        whole = _rendered(processor, [*asked, answer], add_generation_prompt=False)
        media, found, rest = opened.rpartition(processor.image_token)
        before, after = rest.split(_QUESTION)
        lead, tail = whole.split(_ANSWER)
    except (TemplateError, ValueError, TypeError) as error:
        raise UserError(
            f"the chat template of {processor.tokenizer.name_or_path} does not take pictures "
            f"followed by a question ({error}); put the model's own chat_template.jinja beside "
            "its weights"
        ) from None
    if media.count(processor.image_token) != pictures - 1:
        raise UserError(
            f"the chat template of {processor.tokenizer.name_or_path} has no place for "
            f"{pictures} pictures; put the model's own chat_template.jinja beside its weights"
        )
    before_answer = lead.removeprefix(opened) if lead.startswith(opened) else ""
    return Prompt(media + found, before, after, before_answer, _end(processor.tokenizer, tail))


def _rendered(
    processor: Any, messages: list[dict[str, Any]], *, add_generation_prompt: bool
) -> str:
    """By the tokenizer: processors ask for their video processor, which needs torchvision."""
    text: str = processor.tokenizer.apply_chat_template(
        messages,
        chat_template=processor.chat_template,
        add_generation_prompt=add_generation_prompt,
        tokenize=False,
    )
    return text


def _end(tokenizer: Any, tail: str) -> int:
    """The first token behind an answer where it is a special one, else the tokenizer's own end."""
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"]
    special = ids and tokenizer.added_tokens_decoder.get(ids[0])
    return ids[0] if special else int(tokenizer.eos_token_id)
