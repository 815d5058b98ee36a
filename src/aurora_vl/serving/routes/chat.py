"""POST /v1/chat/completions: OpenAI's, for a question about a picture or a video."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import APIRouter

from aurora_vl.serving.engine import QuestionRow
from aurora_vl.serving.errors import ApiError
from aurora_vl.serving.schemas import ChatRequest
from aurora_vl.serving.service import Shared

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat(asked: ChatRequest, service: Shared) -> dict[str, Any]:
    """The answer to the user's last message about the last picture or video before it."""
    if asked.stream:
        raise ApiError(400, "answers come whole; leave stream out.", param="stream")
    if asked.n not in (None, 1):
        raise ApiError(400, "there is one answer to a question; leave n out.", param="n")
    adapter = service.engine.adapter(asked.model, "questions")
    question, uri = _question(asked)
    service.check_texts([question], "messages")
    if asked.answers:
        service.check_texts(asked.answers, "answers")
    (item,) = await service.media([uri], "messages")
    answers = None if asked.answers is None else tuple(asked.answers)
    row = QuestionRow(item, question, adapter, answers)
    (answer,) = await service.batcher.run(service.engine.answer, [row])
    message = {"role": "assistant", "content": str(answer), "refusal": None}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model or service.engine.usual("questions"),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "log_likelihood": answer.log_likelihood,
    }


def _question(asked: ChatRequest) -> tuple[str, str]:
    """The user's last question and the data URI of the medium it is about."""
    question = next((m.text for m in reversed(asked.messages) if m.role == "user" and m.text), None)
    uris = [uri for message in asked.messages for uri in message.uris]
    if question is None or not uris:
        raise ApiError(
            400,
            "messages must hold a question as text, and a picture or video as image_url or "
            "video_url.",
            param="messages",
        )
    return question, uris[-1]
