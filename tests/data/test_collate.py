from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_blip import tiny_config
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from aurora_vl.backbones.base import PreparationSettings
from aurora_vl.backbones.blip.preparation import BlipPreprocessor
from aurora_vl.data.collate import RetrievalCollator
from aurora_vl.data.datasets import RetrievalTrainSet
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.transforms import ImageTransform


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "cat", "on", "the", "mat"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture
def train(tmp_path: Path, write_pictures: Any) -> RetrievalTrainSet:
    captions = [("A dog", "a cat on the mat"), ("a " * 29,)]
    records = [
        CaptionedMedia(name, tmp_path / name, "image", texts)
        for name, texts in zip(write_pictures(2), captions)
    ]
    return RetrievalTrainSet(records, ImageTransform(8), seed=0)


def collator(tokenizer: PreTrainedTokenizerFast, **settings: Any) -> RetrievalCollator:
    return RetrievalCollator(
        BlipPreprocessor(tokenizer, tiny_config(), PreparationSettings(**settings))
    )


def test_captions_are_padded_to_the_batchs_longest(
    train: RetrievalTrainSet, tokenizer: PreTrainedTokenizerFast
) -> None:
    texts = collator(tokenizer)([train[0], train[1]])["texts"]
    assert texts["input_ids"].tolist() == [[2, 4, 5, 3, 0, 0, 0], [2, 4, 6, 7, 8, 9, 3]]
    assert texts["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7]


def test_captions_are_cut_to_the_token_limit(
    train: RetrievalTrainSet, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert collator(tokenizer)([train[2]])["texts"]["input_ids"].shape == (1, 31)
    cut = collator(tokenizer, max_tokens=5)([train[2]])["texts"]
    assert cut["input_ids"].tolist() == [[2, 4, 4, 4, 3]]
    words = collator(tokenizer, max_words=2)([train[2]])["texts"]
    assert words["input_ids"].tolist() == [[2, 4, 4, 3]]


def test_a_batchs_parts(train: RetrievalTrainSet, tokenizer: PreTrainedTokenizerFast) -> None:
    items = [train[2], train[0], train[1]]
    batch = collator(tokenizer)(items)
    assert batch["media"]["pixel_values"].shape == (3, 3, 8, 8)
    assert batch["media"]["pixel_values"].dtype == torch.uint8
    assert batch["media_index"].tolist() == [1, 0, 0]
    assert batch["media_index"].dtype == torch.int64
    assert batch["uniforms"].shape == (3, 2)
    assert batch["uniforms"].dtype == torch.float32
    assert batch["augment_seed"].dtype == torch.int64
    assert batch["augment_seed"].tolist() == [item["augment_seed"] for item in items]
    assert set(batch) == {"media", "texts", "media_index", "uniforms", "augment_seed"}


def test_a_batch_of_media_with_captions_together(
    tmp_path: Path, write_pictures: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    records = [
        CaptionedMedia(name, tmp_path / name, "image", texts)
        for name, texts in zip(write_pictures(2), [("w", "w w"), ("w w w", "w")])
    ]
    train = RetrievalTrainSet(records, ImageTransform(8), seed=0, captions_per_item=2)
    batch = collator(tokenizer)([train[1], train[0]])
    assert batch["media"]["pixel_values"].shape == (2, 3, 8, 8)
    assert batch["texts"]["attention_mask"].sum(1).tolist() == [5, 3, 3, 4]
    assert batch["media_index"].tolist() == [1, 1, 0, 0]
    assert batch["uniforms"].shape == (4, 2)
    assert batch["augment_seed"].shape == (2,)
