"""The mini foundation's WordPiece tokenizer, made from the grammar's words.

Text is first mapped to the 256-character byte alphabet, and every one of those characters is both
an initial and a continuation piece, so no text is ever unknown and two different cleaned texts
never become the same ids.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from aurora_vl.data.synthetic.grammar import lexicon

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "bos_token": "[DEC]",  # begins an answer
}
ENCODER_TOKEN = "[ENC]"  # replaces [CLS] where text attends to an image
_CONTINUATION = "\u2040"  # outside the byte alphabet, so no text can contain it
_SPACE = "\u0120"  # the byte alphabet's name of a space


def build_tokenizer() -> Tokenizer:
    """The tokenizer; special ids are 0 [PAD] 1 [UNK] 2 [CLS] 3 [SEP] 4 [MASK] 5 [DEC] 6 [ENC]."""
    specials = [*SPECIAL_TOKENS.values(), ENCODER_TOKEN]
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {_SPACE})
    pieces = [*alphabet, *(_CONTINUATION + c for c in alphabet)]
    pieces += [word for word in lexicon() if word not in alphabet]
    vocabulary = {piece: index for index, piece in enumerate([*specials, *pieces])}
    model = WordPiece(
        vocabulary,
        unk_token="[UNK]",
        max_input_chars_per_word=1_000,
        continuing_subword_prefix=_CONTINUATION,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(_SPACE, behavior="removed")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(t, vocabulary[t]) for t in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(f"^(?!{_CONTINUATION})"), _SPACE),
            decoders.Replace(_CONTINUATION, ""),
            decoders.ByteLevel(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(specials)
    return tokenizer
