"""The `openai` client works unchanged, and what it gets is what Python gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from served import Client, data_uri

from aurora_vl.inference.retriever import Retriever
from aurora_vl.serving.engine import Engine

CLOSE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture(scope="module")
def api(client: Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def test_models_are_the_backbone_and_its_adapters(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == ["mini", "a", "b", "asks-a", "asks-b"]
    assert api.models.retrieve("b").id == "b"


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])  # base64 by default
@pytest.mark.parametrize(("model", "adapter"), [("a", "a"), ("b", "b"), ("mini", "base")])
def test_texts_are_embedded(
    api: openai.OpenAI, retriever: Retriever, encoding: dict[str, Any], model: str, adapter: str
) -> None:
    texts = ["a red star", "two small blue boats on water"]
    found = api.embeddings.create(model=model, input=texts, **encoding)
    expected = retriever.encode_texts(texts, adapter=adapter)
    np.testing.assert_allclose([each.embedding for each in found.data], expected, **CLOSE)
    assert found.usage.prompt_tokens == int(retriever.tokenize(texts).lengths.sum())


def test_pictures_and_videos_are_embedded(
    api: openai.OpenAI, retriever: Retriever, pictures: list[Path], videos: list[Path]
) -> None:
    given = [data_uri(path) for path in pictures[:3]]
    found = api.embeddings.create(model="a", input=given, extra_body={"modality": "image"})
    expected = retriever.encode_images(pictures[:3])
    np.testing.assert_allclose([each.embedding for each in found.data], expected, **CLOSE)
    found = api.embeddings.create(
        model="b", input=data_uri(videos[0]), extra_body={"modality": "video"}
    )
    expected = retriever.encode_videos(videos[0], adapter="b")
    np.testing.assert_allclose([found.data[0].embedding], expected, **CLOSE)


def test_a_picture_in_a_message_is_embedded(
    client: Client, retriever: Retriever, pictures: list[Path]
) -> None:
    part = {"type": "image_url", "image_url": {"url": data_uri(pictures[0])}}
    messages = [{"role": "user", "content": [part]}]
    found = client.post("/v1/embeddings", {"model": "a", "messages": messages}).json
    expected = retriever.encode_images(pictures[0])
    np.testing.assert_allclose([found["data"][0]["embedding"]], expected, **CLOSE)


@pytest.mark.parametrize("part", ["image_url", "video_url"])
def test_a_question_is_answered(
    api: openai.OpenAI, engine: Engine, pictures: list[Path], videos: list[Path], part: str
) -> None:
    path = pictures[3] if part == "image_url" else videos[1]
    asked = "what colour is it?"
    content = [
        {"type": "text", "text": asked},
        {"type": part, part: {"url": data_uri(path)}},
    ]
    messages = [{"role": "user", "content": content}]
    assert engine.answerer is not None
    for model, adapter in [("asks-a", "asks-a"), ("asks-b", "asks-b"), ("mini", "base")]:
        found = api.chat.completions.create(model=model, messages=messages)  # type: ignore[arg-type]
        expected = engine.answerer.answer(path, asked, adapter=adapter)
        assert found.choices[0].message.content == expected
        likely = found.model_extra and found.model_extra["log_likelihood"]
        assert likely == pytest.approx(expected.log_likelihood, abs=1e-5)


def test_an_answer_is_chosen(api: openai.OpenAI, engine: Engine, pictures: list[Path]) -> None:
    content = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": data_uri(pictures[0])}},
    ]
    found = api.chat.completions.create(
        model="asks-a",
        messages=[{"role": "user", "content": content}],  # type: ignore[list-item,misc]
        extra_body={"answers": ["a star", "a boat"]},
    )
    assert engine.answerer is not None
    expected = engine.answerer.answer(pictures[0], "what is it?", answers=["a star", "a boat"])
    assert found.choices[0].message.content == expected


def test_an_unknown_model_is_not_found(api: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="known: mini, a, b, asks-a, asks-b"):
        api.embeddings.create(model="c", input="a star")
    with pytest.raises(openai.BadRequestError, match="asks-a is not for retrieval; these are"):
        api.embeddings.create(model="asks-a", input="a star")
