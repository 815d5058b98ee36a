"""Models of the tests as `Retriever` and `Answerer` take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from aurora_vl.backbones.families import family_of_model
from aurora_vl.inference.answerer import Answerer
from aurora_vl.inference.loading import TunedModel
from aurora_vl.inference.retriever import Retriever
from aurora_vl.inference.settings import AdapterSettings


def in_use(model: nn.Module, tokenizer: Any, **settings: Any) -> TunedModel:
    """A model with settings, as it is."""
    family = family_of_model(model)
    return TunedModel(model, family, "tiny", tokenizer, {}, {None: AdapterSettings(**settings)})


def retriever_of(
    model: nn.Module, tokenizer: Any, batch_size: int = 64, **settings: Any
) -> Retriever:
    """A retriever around a model that was made in a test."""
    return Retriever(in_use(model, tokenizer, **settings), batch_size)


def answerer_of(
    model: nn.Module, tokenizer: Any, batch_size: int = 64, **settings: Any
) -> Answerer:
    """An answerer around a model that was made in a test."""
    return Answerer(in_use(model, tokenizer, **settings), batch_size)


def by_part(batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """A flat batch of pairs as the retrieval task takes it."""
    rest = {name: value for name, value in batch.items() if name not in _INPUTS}
    texts = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return {"media": {"pixel_values": batch["pixel_values"]}, "texts": texts, **rest}


_INPUTS = ("pixel_values", "input_ids", "attention_mask")
