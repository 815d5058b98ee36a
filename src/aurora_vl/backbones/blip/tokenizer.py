"""The tokenizer beside a backbone: reading one, and making BLIP's of BERT's.

BLIP's is that of bert-base-uncased with two more words at its end: [DEC] begins an answer and
[ENC] a text that is read with a picture.
"""

from __future__ import annotations

import json
from pathlib import Path

from transformers import (
    AutoTokenizer,
    BertTokenizer,
    BlipConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from aurora_vl.backbones.blip.modeling import DEFAULT_ENC_TOKEN_ID
from aurora_vl.backbones.folders import find_folder
from aurora_vl.errors import UserError

DEFAULT_TOKENIZER = "bert-base-uncased"
_VOCABULARY, _WHOLE, _CONFIG = "vocab.txt", "tokenizer.json", "tokenizer_config.json"
_FILES = (_WHOLE, _CONFIG, "special_tokens_map.json", _VOCABULARY)
_ROLES = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return (folder / _WHOLE).is_file() or (folder / _VOCABULARY).is_file()


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder; a vocab.txt beside which nothing names a class is read as BERT's.

    Raises:
        UserError: if there is none or it cannot be read.
    """
    try:
        if not has_tokenizer(folder):
            raise FileNotFoundError(_WHOLE)  # transformers would make an empty one
        if not (folder / _WHOLE).is_file() and not _names_class(folder):
            return BertTokenizer.from_pretrained(folder, local_files_only=True)
        return AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
    except Exception as error:  # what a damaged file comes to; tokenizers raise no narrower kind
        raise UserError(
            f"{folder} holds no tokenizer that can be read; put tokenizer.json and "
            "tokenizer_config.json beside the weights"
        ) from error


def _names_class(folder: Path) -> bool:
    """Whether tokenizer_config.json names a class, which that of old BERT models does not."""
    file = folder / _CONFIG
    return file.is_file() and "tokenizer_class" in json.loads(file.read_text(encoding="utf-8"))


def blip_tokenizer(name: str, config: BlipConfig, way_out: str) -> PreTrainedTokenizerBase:
    """A tokenizer with BLIP's two additional words, which must get the model's ids.

    Args:
        name: a folder or a hub id; words it already has are not added again.
        config: the model's; its ids of [DEC] and [ENC] are looked at.
        way_out: what an error tells the user to do.

    Raises:
        UserError: if there is no such tokenizer, or it is another model's.
    """
    loaded = read_tokenizer(find_folder(name, _FILES, way_out))
    roles = {role: getattr(loaded, role) for role in _ROLES}
    lacking = [role for role, word in roles.items() if word is None and role != "mask_token"]
    if lacking:
        raise UserError(f"the tokenizer {name} has no {lacking[0]}; {way_out}")
    backend = loaded.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="[DEC]",
        extra_special_tokens={"enc_token": "[ENC]"},
        model_max_length=config.text_config.max_position_embeddings,
        **roles,
    )
    text = config.text_config
    wanted = (text.bos_token_id, getattr(text, "enc_token_id", DEFAULT_ENC_TOKEN_ID))
    given = (tokenizer.bos_token_id, tokenizer.enc_token_id)
    if given != wanted:
        raise UserError(
            f"the tokenizer {name} gives [DEC] and [ENC] the ids {given[0]} and {given[1]}, the "
            f"model has {wanted[0]} and {wanted[1]}, so it belongs to another model; {way_out}"
        )
    return tokenizer
