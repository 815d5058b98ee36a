"""Every published layout becomes a folder that computes the same; what cannot is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from original_blip import (
    PUBLISHED,
    Sizes,
    State,
    original_state,
    original_vision,
    save_original,
)
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import BlipForImageTextRetrieval
from transformers import BlipForQuestionAnswering as TheirQuestionAnswering

from aurora_vl.backbones import folders as hub
from aurora_vl.backbones.blip.convert import convert
from aurora_vl.backbones.blip.loading import Task, load, load_config
from aurora_vl.backbones.blip.original import heads_of
from aurora_vl.errors import UserError

LARGE = Sizes(vision=192, text=128)
TASKS: dict[str, tuple[Task, ...]] = {
    "pretraining": ("retrieval", "vqa"),
    "retrieval": ("retrieval",),
    "vqa": ("vqa",),
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A vocabulary of 40 words, which [DEC] and [ENC] make 42."""
    folder = tmp_path_factory.mktemp("words")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(35))]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n")
    return str(folder)


@pytest.fixture
def retrieval() -> State:
    return original_state("retrieval", Sizes(16, 16))


def picture(size: int) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(3)).double()


assert_close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------- what is converted


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_checkpoint(name: str, words: str, tmp_path: Path) -> None:
    """All names at full depth; the vision encoder against the original one, written out."""
    layout, size, side = PUBLISHED[name]
    sizes = Sizes.published(size, side)
    state = original_state(layout, sizes)
    file = save_original(tmp_path / name, state, epoch=5, config={"vit": size})
    done = convert(file, tmp_path / "out", tokenizer=words)
    tasks = TASKS[layout] if name != "model_large.pth" else ("retrieval",)
    assert done.tasks == tasks
    assert {path.name for path in done.folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    vision = load_config(done.folder).vision_config
    assert (vision.num_hidden_layers, vision.image_size) == (sizes.vision_layers, side * 16)
    stored = sum(tensor.numel() for tensor in load_file(done.folder / "model.safetensors").values())
    assert done.numbers == stored
    expected = original_vision(state, picture(side * 16), heads=1)
    for task in tasks:
        model = load(done.folder, task=task, dtype=torch.float64)
        with torch.no_grad():
            assert_close(model.vision_model(picture(side * 16)), expected)


@pytest.mark.parametrize("layout", ["retrieval", "pretraining"])
@pytest.mark.parametrize("sizes", [Sizes(), LARGE], ids=["base", "large"])
@torch.no_grad()
def test_retrieval_computes_what_transformers_computes(
    layout: Any, sizes: Sizes, words: str, tmp_path: Path
) -> None:
    state = original_state(layout, sizes)
    done = convert(save_original(tmp_path / "x.pth", state), tmp_path / "out", tokenizer=words)
    theirs, report = BlipForImageTextRetrieval.from_pretrained(
        done.folder, dtype=torch.float64, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert all(key.startswith("text_decoder.") for key in report["unexpected_keys"])
    ours = load(done.folder, dtype=torch.float64)
    assert ours.config.vision_config.num_attention_heads == sizes.vision // 64
    assert ours.temperature.weight.item() == pytest.approx(0.0541)
    pixels, ids = picture(32), torch.tensor([[41, 7, 9, 30, 3, 0]])
    mask = (ids != 0).long()
    states, features = ours.encode_image(pixels)
    assert_close(states, original_vision(state, pixels, heads=sizes.vision // 64))
    text = ours.encode_text(ids, mask)[1]
    cosine = theirs(ids, pixels, use_itm_head=False, attention_mask=mask).itm_score
    assert_close(features @ text.T, cosine)
    logits = theirs(ids, pixels, use_itm_head=True, attention_mask=mask).itm_score
    assert_close(ours.match(ids, mask, ours.cross_keys(states)), logits)


@pytest.mark.parametrize("layout", ["vqa", "pretraining"])
@torch.no_grad()
def test_answers_are_what_transformers_computes(layout: Any, words: str, tmp_path: Path) -> None:
    state = original_state(layout, Sizes())
    done = convert(save_original(tmp_path / "x.pth", state), tmp_path / "out", tokenizer=words)
    theirs, report = TheirQuestionAnswering.from_pretrained(
        done.folder, dtype=torch.float64, output_loading_info=True
    )
    assert not report["missing_keys"]
    ours = load(done.folder, task="vqa", dtype=torch.float64)
    pixels, question = picture(32), torch.tensor([[41, 7, 9, 30, 3]])
    answer = torch.tensor([[40, 8, 3]])
    image = theirs.vision_model(pixels).last_hidden_state
    read = theirs.text_encoder(question, encoder_hidden_states=image).last_hidden_state
    expected = theirs.text_decoder(answer, encoder_hidden_states=read).logits
    assert_close(ours(pixels, question, None, answer), expected)
    generated = theirs.generate(question, pixels, max_new_tokens=5, do_sample=False)
    assert ours.generate(pixels, question, max_new_tokens=5).equal(generated)
    words_in = ours.text_decoder.get_input_embeddings().weight
    assert_close(words_in, state["text_decoder.cls.predictions.decoder.weight"].double())


def test_an_output_map_of_its_own_is_taken_for_both_and_said(words: str, tmp_path: Path) -> None:
    """Pre-training unties them; BLIP's own loading ends with the output's in both places."""
    state = original_state("pretraining", Sizes(16, 16))
    inner = "text_decoder.bert.embeddings.word_embeddings.weight"
    outer = "text_decoder.cls.predictions.decoder.weight"
    assert not state[inner].equal(state[outer])
    done = convert(save_original(tmp_path / "x.pth", state), tmp_path / "out", tokenizer=words)
    assert load_file(done.folder / "model.safetensors")[inner].equal(state[outer])
    assert any(inner in note and outer in note for note in done.notes)


def test_what_is_left_out_is_said(words: str, tmp_path: Path) -> None:
    state = original_state("pretraining", Sizes(24, 16))
    momentum = sum("_m." in name for name in state)
    decoder = sum(name.startswith("text_decoder.") for name in state) - 1  # position numbers
    done = convert(save_original(tmp_path / "x.pth", state), tmp_path / "out", tokenizer=words)
    notes = " / ".join(done.notes)
    assert f"{momentum} of momentum copies, 3 of queues, 2 of position numbers" in notes
    assert f"the decoder, {decoder} tensors: it reads image states of width 24" in notes
    assert not any(
        "decoder" in name or "_m." in name for name in load_file(done.folder / "model.safetensors")
    )


def test_files_load_as_their_folders_do(words: str, tmp_path: Path) -> None:
    state = original_state("pretraining", Sizes(16, 16))
    file = save_original(tmp_path / "x.pth", state)
    folder = convert(file, tmp_path / "out", tokenizer=words).folder
    for task in TASKS["pretraining"]:
        one, other = load(file, task=task), load(folder, task=task)
        assert one.name_or_path == str(file)
        for name, tensor in one.state_dict().items():
            assert tensor.equal(other.state_dict()[name]), name
    assert load_config(file).vision_config.to_dict() == load_config(folder).vision_config.to_dict()


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_forms_of_files(
    retrieval: State, words: str, tmp_path: Path, old: bool, wrapped: bool
) -> None:
    content = {"model": retrieval, "optimizer": {"state": {}}} if wrapped else retrieval
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
    assert convert(tmp_path / "x.pth", tmp_path / "out", tokenizer=words).tasks == ("retrieval",)


def test_half_precision_stays(retrieval: State, words: str, tmp_path: Path) -> None:
    state = {n: t.half() if t.is_floating_point() else t for n, t in retrieval.items()}
    done = convert(save_original(tmp_path / "x.pth", state), tmp_path / "out", tokenizer=words)
    with safe_open(done.folder / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_positions_are_fitted_to_another_size(retrieval: State, words: str, tmp_path: Path) -> None:
    file = save_original(tmp_path / "x.pth", retrieval)
    done = convert(file, tmp_path / "out", tokenizer=words, image_size=64)
    assert done.config.vision_config.image_size == 64
    fitted = load(file, image_size=64).vision_model.embeddings.position_embedding
    stored = load(done.folder).vision_model.embeddings.position_embedding
    assert stored.shape == (1, 17, 16)
    assert stored.equal(fitted)
    assert stored[:, 0].equal(retrieval["visual_encoder.pos_embed"][:, 0])
    with pytest.raises(UserError, match=r"image size 40 is not a multiple .* 16"):
        convert(file, tmp_path / "other", tokenizer=words, image_size=40)


def test_a_file_without_temperature_starts_from_the_usual_one(
    retrieval: State, words: str, tmp_path: Path
) -> None:
    del retrieval["temp"]
    done = convert(save_original(tmp_path / "x.pth", retrieval), tmp_path / "out", tokenizer=words)
    assert load(done.folder).temperature.weight.item() == pytest.approx(0.07)


@pytest.mark.parametrize(
    ("width", "heads"), [(768, 12), (1024, 16), (64, 1), (48, 1), (130, 2), (200, 2), (333, 3)]
)
def test_heads(width: int, heads: int) -> None:
    assert heads_of(width) == heads


# --------------------------------------------------------------------- transformers' folders


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("task", ["retrieval", "vqa"])
def test_folders_of_transformers(task: Task, pickled: bool, words: str, tmp_path: Path) -> None:
    state = original_state("retrieval" if task == "retrieval" else "vqa", Sizes(64, 64))
    file = save_original(tmp_path / "x.pth", state)
    config = convert(file, tmp_path / "first", tokenizer=words).config
    kind = BlipForImageTextRetrieval if task == "retrieval" else TheirQuestionAnswering
    theirs = kind.from_pretrained(tmp_path / "first")
    del config.text_config.enc_token_id  # which theirs do not have, as it is 30523 in all
    theirs.config = config
    folder = tmp_path / "theirs"
    theirs.save_pretrained(folder)
    if pickled:
        (folder / "model.safetensors").unlink()
        position_ids = {"text_encoder.embeddings.position_ids": torch.arange(24)[None]}
        torch.save(theirs.state_dict() | position_ids, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="the ids 40 and 41, the model has 40 and 30523"):
        convert(folder, tmp_path / "out", tokenizer=words)
    content = json.loads((folder / "config.json").read_text())
    content["text_config"]["enc_token_id"] = 41
    (folder / "config.json").write_text(json.dumps(content))
    done = convert(folder, tmp_path / "out", tokenizer=words)
    assert done.tasks == (task,)
    one, other = load(folder, task=task), load(done.folder, task=task)
    for name, tensor in one.state_dict().items():
        assert tensor.equal(other.state_dict()[name]), name
    _, report = kind.from_pretrained(done.folder, output_loading_info=True)
    assert not any(report.values()), report


def test_a_folder_of_captions_is_refused(words: str, tmp_path: Path) -> None:
    """It has a decoder, but nothing that reads the question."""
    file = save_original(tmp_path / "x.pth", original_state("vqa", Sizes(16, 16)))
    folder = convert(file, tmp_path / "first", tokenizer=words).folder
    state = load_file(folder / "model.safetensors")
    kept = {name: t for name, t in state.items() if not name.startswith("text_encoder.")}
    (folder / "model.safetensors").unlink()
    torch.save(kept, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"not a whole BLIP for vqa: missing: text_encoder\."):
        convert(folder, tmp_path / "out")


# --------------------------------------------------------------------------------- wrong files


def _missing(state: State) -> str:
    del state["visual_encoder.blocks.1.attn.proj.bias"]
    return r"missing: visual_encoder\.blocks\.1\.attn\.proj\.bias;"


def _extra(state: State) -> str:
    state["visual_encoder.blocks.1.attn.adapter.weight"] = torch.zeros(2)
    return r"unexpected: visual_encoder\.blocks\.1\.attn\.adapter\.weight;"


def _another_shape(state: State) -> str:
    state["visual_encoder.blocks.1.norm2.weight"] = torch.ones(17)
    return r"of another shape: visual_encoder\.blocks\.1\.norm2\.weight \(17 instead of 16\)"


def _no_words(state: State) -> str:
    del state["text_encoder.embeddings.word_embeddings.weight"]
    return r"has no text_encoder\.embeddings\.word_embeddings\.weight"


def _flat_patches(state: State) -> str:
    name = "visual_encoder.patch_embed.proj.weight"
    state[name] = state[name].flatten(1)
    return rf"{name} has 2 dimensions instead of 4"


def _no_square(state: State) -> str:
    state["visual_encoder.pos_embed"] = torch.zeros(1, 7, 16)
    return "visual_encoder.pos_embed is for 6 patches, which do not form a square"


def _two_temperatures(state: State) -> str:
    state["temp"] = torch.ones(2)
    return "temp is not one number"


def _no_part_of_a_task(state: State) -> str:
    for name in list(state):
        if name.startswith(("vision_proj.", "text_proj.", "itm_head.")):
            del state[name]
    return r"neither the heads of a retrieval model \(vision_proj.*give a checkpoint for"


def _half_the_heads(state: State) -> str:
    del state["itm_head.weight"]
    return r"missing: itm_head\.weight;"


def _no_tensor(state: State) -> str:
    state["itm_head.bias"] = 3  # type: ignore[assignment]
    return r"itm_head\.bias is a int, not a tensor"


def _no_name(state: State) -> str:
    state[3] = torch.zeros(1)  # type: ignore[index]
    return "3 is no tensor's name"


def _flat_projection(state: State) -> str:
    state["vision_proj.weight"] = torch.tensor(1.0)
    return r"vision_proj\.weight has 0 dimensions instead of 2"


def _no_patch(state: State) -> str:
    state["visual_encoder.patch_embed.proj.weight"] = torch.zeros(16, 3, 0, 0)
    return r"visual_encoder\.patch_embed\.proj\.weight is empty"


def _no_temperature(state: State) -> str:
    state["temp"] = torch.tensor(float("nan"))
    return "temp is nan, not a positive number"


def _complex_temperature(state: State) -> str:
    state["temp"] = torch.tensor(1j)
    return "temp is not one number"


FAULTS = [
    _missing,
    _extra,
    _another_shape,
    _no_words,
    _flat_patches,
    _no_square,
    _two_temperatures,
    _no_part_of_a_task,
    _half_the_heads,
    _no_tensor,
    _no_name,
    _flat_projection,
    _no_patch,
    _no_temperature,
    _complex_temperature,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_wrong_tensors_are_named(
    retrieval: State, words: str, tmp_path: Path, fault: Callable[[State], str]
) -> None:
    sentence = fault(retrieval)
    file = save_original(tmp_path / "x.pth", retrieval)
    with pytest.raises(UserError, match=sentence) as caught:
        convert(file, tmp_path / "out", tokenizer=words)
    assert str(file) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: data[:-1000], "cannot be read"),
        (lambda data: b"", r"cannot be read \("),
        (lambda data: b"<html>not found</html>", "is not a file of weights"),
    ],
    ids=["half", "cut", "empty", "page"],
)
def test_damaged_files(
    retrieval: State,
    words: str,
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    sentence: str,
) -> None:
    file = save_original(tmp_path / "x.pth", retrieval)
    file.write_bytes(change(file.read_bytes()))
    for attempt in (lambda: convert(file, tmp_path / "out", tokenizer=words), lambda: load(file)):
        with pytest.raises(UserError, match=rf"x\.pth {sentence}"):
            attempt()


class _Bomb:
    """Leaves a file behind if its pickle is executed."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("old", [False, True])
def test_code_in_a_file_is_not_executed(
    retrieval: State, words: str, tmp_path: Path, old: bool
) -> None:
    spot = tmp_path / "executed"
    content = {"model": retrieval, "config": _Bomb(spot)}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(UserError, match=r"x\.pth holds more than tensors \(\S+\) and is not read"):
        convert(tmp_path / "x.pth", tmp_path / "out", tokenizer=words)
    assert not spot.exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"model": [1]}, {"epoch": 3}, {}])
def test_files_without_tensors_by_name(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth"):
        convert(tmp_path / "x.pth", tmp_path / "out", tokenizer=words)


def test_a_folder_in_use_is_left_alone(
    retrieval: State, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_original(tmp_path / "x.pth", retrieval)
    used, empty, here = tmp_path / "used", tmp_path / "empty", tmp_path / "here"
    for folder in (used, empty, here):
        folder.mkdir()
    (used / "notes.txt").write_text("mine")
    for taken in (used, file):
        with pytest.raises(UserError, match=f"{taken} exists and is not an empty folder"):
            convert(file, taken, tokenizer=words)
    assert [path.name for path in used.iterdir()] == ["notes.txt"]
    assert convert(file, empty, tokenizer=words).folder == empty
    assert convert(file, tmp_path / "a" / "new", tokenizer=words).folder.is_dir()
    monkeypatch.chdir(here)
    convert(file, Path("."), tokenizer=words)
    assert (here / "config.json").is_file()


def test_nothing_is_left_when_writing_fails(
    retrieval: State, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("aurora_vl.backbones.blip.convert.save_file", full)
    file = save_original(tmp_path / "x.pth", retrieval)
    with pytest.raises(OSError, match="no space"):
        convert(file, tmp_path / "out", tokenizer=words)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_names_that_lead_nowhere(words: str, tmp_path: Path) -> None:
    for name in ("absent.pth", "absent"):
        with pytest.raises(UserError, match=f"there is no f.*{name}"):
            convert(tmp_path / name, tmp_path / "out", tokenizer=words)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=r"there is no .*bare.config\.json"):
        convert(tmp_path / "bare", tmp_path / "out", tokenizer=words)


def test_a_hub_id_is_downloaded(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_original(tmp_path / "x.pth", original_state("vqa", Sizes(16, 16)))
    folder = convert(file, tmp_path / "first", tokenizer=words).folder
    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: str(folder))
    done = convert("someone/blip", tmp_path / "out")  # its own tokenizer goes along
    assert done.tasks == ("vqa",)
    same = "tokenizer.json"
    assert (done.folder / same).read_text() == (folder / same).read_text()
