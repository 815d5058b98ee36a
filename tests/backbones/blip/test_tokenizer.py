"""Tokenizers as they lie beside weights, of today and of years ago."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aurora_vl.backbones.blip.tokenizer import read_tokenizer
from aurora_vl.errors import UserError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "Dog"]


@pytest.mark.parametrize(
    ("config", "ids"),
    [
        (None, [2, 5, 6, 3]),
        ({"do_lower_case": True, "model_max_length": 512}, [2, 5, 6, 3]),  # bert-base-uncased's
        ({"do_lower_case": False}, [2, 5, 7, 3]),
        ({"tokenizer_class": "BertTokenizer"}, [2, 5, 6, 3]),
    ],
)
def test_a_vocabulary_alone(tmp_path: Path, config: Any, ids: list[int]) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_tokenizer(tmp_path)("a Dog")["input_ids"] == ids


@pytest.mark.parametrize("config", ["{", "[]", '{"tokenizer_class": "Nothing"}'])
def test_a_damaged_configuration_beside_it(tmp_path: Path, config: str) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(UserError, match="holds no tokenizer that can be read"):
        read_tokenizer(tmp_path)
