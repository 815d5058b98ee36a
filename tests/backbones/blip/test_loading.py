"""Backbones and tokenizers by name, and the sentences when that fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from tiny_blip import tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.nn import functional as F
from transformers import (
    BlipConfig,
    BlipForImageTextRetrieval,
    PreTrainedTokenizerFast,
)
from transformers import BlipForQuestionAnswering as TheirQuestionAnswering

from aurora_vl.backbones import folders as hub
from aurora_vl.backbones.blip import loading
from aurora_vl.backbones.blip.checkpoint import POSITIONS, interpolate_positions
from aurora_vl.backbones.blip.convert import convert
from aurora_vl.backbones.blip.loading import load, load_tokenizer
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, BlipForRetrieval
from aurora_vl.errors import UserError

Fill = Callable[..., nn.Module]


@pytest.fixture
def folder(even_config: BlipConfig, fill: Fill, tmp_path: Path) -> Path:
    """A folder with the parts of both tasks, as the mini foundation has them."""
    retrieval = fill(BlipForImageTextRetrieval(even_config)).float()
    answering = fill(TheirQuestionAnswering(even_config)).float()
    retrieval.save_pretrained(tmp_path / "both")
    answering.save_pretrained(tmp_path / "vqa")
    file = tmp_path / "both" / "model.safetensors"
    decoder = {
        key: tensor
        for key, tensor in load_file(tmp_path / "vqa" / "model.safetensors").items()
        if key.startswith("text_decoder.")
    }
    save_file(load_file(file) | decoder, file, metadata={"format": "pt"})
    return tmp_path / "both"


def change_state(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_each_task_takes_its_parts(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    retrieval, answering = load(folder), load(str(folder), task="vqa")
    assert isinstance(retrieval, BlipForRetrieval)
    assert isinstance(answering, BlipForQuestionAnswering)
    assert not retrieval.training
    assert not hasattr(answering, "itm_head")
    assert retrieval.temperature.weight.item() == pytest.approx(0.07)
    for model in (retrieval, answering):
        assert model.name_or_path == str(folder)
        loaded = {k: v for k, v in model.state_dict().items() if k in state}
        assert len(loaded) > 60
        for key, tensor in loaded.items():
            assert tensor.equal(state[key]), key
    predictions = answering.text_decoder.cls.predictions
    assert predictions.decoder.weight is answering.text_decoder.get_input_embeddings().weight
    assert predictions.decoder.bias is predictions.bias
    assert all(p.requires_grad for p in answering.parameters())


@pytest.mark.parametrize("task", ["retrieval", "vqa"])
def test_round_trip(folder: Path, tmp_path: Path, task: loading.Task) -> None:
    model = load(folder, task=task)
    model.save_pretrained(tmp_path / "again")
    assert "temperature.weight" not in load_file(tmp_path / "again" / "model.safetensors")
    again = load(tmp_path / "again", task=task)
    assert all(again.state_dict()[key].equal(value) for key, value in model.state_dict().items())


def test_float16_files_load_as_float32(folder: Path) -> None:
    full = load(folder).state_dict()

    def halve(state: dict[str, torch.Tensor]) -> None:
        state.update({key: tensor.half() for key, tensor in state.items()})

    change_state(folder, halve)
    model = load(folder)
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, full[key], rtol=1e-3, atol=1e-3)
    assert load(folder, dtype=torch.bfloat16).itm_head.weight.dtype == torch.bfloat16


def test_bin_files_and_shards(folder: Path, tmp_path: Path) -> None:
    expected = load(folder, task="vqa").state_dict()
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    state["text_encoder.embeddings.position_ids"] = torch.arange(20)[None]  # as older ones have
    torch.save(state, folder / "pytorch_model.bin")
    model = load(folder, task="vqa")
    assert all(model.state_dict()[key].equal(value) for key, value in expected.items())
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    again = load(tmp_path / "shards", task="vqa")
    assert all(again.state_dict()[key].equal(value) for key, value in expected.items())


def test_a_pickle_that_runs_code_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"itm_head.weight": Path("x")}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin holds more than tensors"):
        load(folder)


def test_image_size_interpolates_positions(folder: Path) -> None:
    before = load(folder).vision_model.embeddings.position_embedding.detach()
    model = load(folder, image_size=32)
    after = model.vision_model.embeddings.position_embedding.detach()
    assert model.config.vision_config.image_size == 32
    assert after.shape == (1, 17, 16)
    assert after[:, 0].equal(before[:, 0])
    one = before[0, 1:, 5].reshape(1, 1, 2, 2)
    expected = F.interpolate(one, size=(4, 4), mode="bicubic", align_corners=False)
    torch.testing.assert_close(after[0, 1:, 5], expected.flatten())
    assert model.encode_image(torch.zeros(1, 3, 32, 32))[0].shape == (1, 17, 16)
    same = load(folder, image_size=16).vision_model.embeddings.position_embedding
    assert same.equal(before)


def test_interpolation_keeps_the_type_and_needs_a_square() -> None:
    positions = torch.randn(1, 5, 3).half()
    assert interpolate_positions(positions, 3).dtype == torch.float16
    with pytest.raises(ValueError, match="6 patch positions"):
        interpolate_positions(torch.randn(1, 7, 3), 2)


def test_missing_and_left_over_keys_are_named(folder: Path) -> None:
    def damage(state: dict[str, torch.Tensor]) -> None:
        del state["itm_head.bias"]
        state["visual.extra"] = torch.zeros(1)
        state["text_proj.bias"] = torch.zeros(3)

    change_state(folder, damage)
    with pytest.raises(UserError) as caught:
        load(folder)
    text = str(caught.value)
    assert "missing: itm_head.bias;" in text
    assert "unexpected: visual.extra;" in text
    assert "of another shape: text_proj.bias (3 instead of 8);" in text
    assert str(folder) in text


def test_many_missing_keys_are_counted(folder: Path) -> None:
    def damage(state: dict[str, torch.Tensor]) -> None:
        for key in list(state):
            if key.startswith("text_decoder."):
                del state[key]

    change_state(folder, damage)
    with pytest.raises(
        UserError, match=r"missing: text_decoder\.bert\.\S+, \S+, \S+ and \d+ more;"
    ):
        load(folder, task="vqa")
    assert isinstance(load(folder), BlipForRetrieval)


def test_positions_of_another_size_than_the_configuration(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["image_size"] = 24
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"of another shape: {POSITIONS}"):
        load(folder)


@pytest.mark.parametrize(
    ("positions", "sentence"),
    [
        (torch.zeros(5), "it has 1 dimensions instead of 3"),
        (torch.zeros(1, 1, 16), "0 patch positions do not form a square"),
        (torch.zeros(1, 5, 16, dtype=torch.int64), "it holds whole numbers"),
    ],
)
def test_positions_that_cannot_be_interpolated(
    folder: Path, positions: torch.Tensor, sentence: str
) -> None:
    change_state(folder, lambda state: state.update({POSITIONS: positions}))
    with pytest.raises(UserError, match=sentence) as caught:
        load(folder, image_size=32)
    assert str(caught.value).startswith(f"{folder}: {POSITIONS} cannot be interpolated")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [({3: torch.zeros(1)}, "3 is no tensor's name"), ({"note": "mine"}, "note is a str, not a")],
)
def test_a_bin_file_of_other_things(folder: Path, entry: dict[Any, Any], sentence: str) -> None:
    state = load_file(folder / "model.safetensors") | entry
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=f"pytorch_model.bin: {sentence}"):
        load(folder)


@pytest.mark.parametrize("size", [0, 4, 20])
def test_image_size_must_be_whole_patches(folder: Path, size: int) -> None:
    with pytest.raises(UserError, match=f"image size {size} is not a multiple .* 8"):
        load(folder, image_size=size)


def test_broken_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown task 'captioning'"):
        load(folder, task="captioning")  # type: ignore[call-overload]
    (folder / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(UserError, match=r"model.safetensors cannot be read"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"neither model.safetensors nor pytorch_model.bin"):
        load(folder)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="a model of type 'clip'"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json cannot be read"):
        load(folder)
    with pytest.raises(UserError, match=r"there is no .*config.json"):
        load(tmp_path)


def test_names_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"there is no file .*model_base.pth"):
        load(tmp_path / "model_base.pth")
    with pytest.raises(UserError, match="there is no folder"):
        load(tmp_path / "absent")

    def offline(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(
        UserError, match=r"'someone/blip' .* \(no connection\); give a local folder"
    ):
        load("someone/blip")


def test_a_folder_that_exists_is_never_a_hub_id(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path of two parts looks like one, whatever the folder lacks."""

    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "t").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no runs/t/config\.json"):
        load("runs/t")
    shutil.copy(folder / "config.json", "runs/t")
    with pytest.raises(UserError, match="runs/t"):
        load("runs/t")
    with pytest.raises(UserError, match="runs/t holds no tokenizer"):
        load_tokenizer("runs/t")


def test_hub_ids_are_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository without safetensors is asked for its .bin as well."""
    asked: list[list[str]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert load("someone/blip").name_or_path == "someone/blip"
    assert len(asked) == 1
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert isinstance(load("someone/blip"), BlipForRetrieval)
    assert "pytorch_model*" in asked[2]


def test_tokenizer(folder: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer that can be read"):
        load_tokenizer(folder)
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "dog": 5}
    raw = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    ).save_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer(["a dog", "dog"], padding=True)["input_ids"] == [[4, 5], [5, 0]]
    assert tokenizer.is_fast


def test_a_folders_weights_file_is_no_original_checkpoint(folder: Path, tmp_path: Path) -> None:
    """Without config.json, heads, temperature and special words would be guessed."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    for name in ("model.safetensors", "pytorch_model.bin"):
        sentence = f"{folder / name} is the weights file of a folder.* give the folder {folder}"
        with pytest.raises(UserError, match=sentence):
            load(folder / name)
        with pytest.raises(UserError, match=sentence):
            convert(folder / name, tmp_path / "out")


@pytest.mark.parametrize("weight_map", [{"a": 3}, {"a": ["x"]}, {"a": None}, [["a", "b"]], "ab"])
def test_an_index_that_names_no_files(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=f"{index} is not an index of weight files"):
        load(folder)


def test_positions_of_eight_bits_are_interpolated(folder: Path) -> None:
    def shorten(state: dict[str, torch.Tensor]) -> None:
        state[POSITIONS] = state[POSITIONS].to(torch.float8_e4m3fn)

    full = load(folder, image_size=32).vision_model.embeddings.position_embedding
    change_state(folder, shorten)
    found = load(folder, image_size=32).vision_model.embeddings.position_embedding
    torch.testing.assert_close(found, full, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer_config.json", b"[]"), ("tokenizer.json", b"\xff\xfe"), ("vocab.txt", b"\xff\xfe")],
)
def test_a_damaged_tokenizer(folder: Path, name: str, content: bytes) -> None:
    if name != "vocab.txt":
        tiny_tokenizer().save_pretrained(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{folder} holds no tokenizer that can be read"):
        load_tokenizer(folder)


def test_a_folder_may_be_called_like_an_architecture(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/checkpoints.md converts model_base.pth to a folder blip-base."""
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UserError, match="blip-base names an architecture, which has no weights"):
        load("blip-base")
    folder.rename(folder.with_name("blip-base"))
    assert load("blip-base").config.vision_config.hidden_size == 16
