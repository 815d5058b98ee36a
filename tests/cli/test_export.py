"""`aurora export`: what it writes is used by transformers and PEFT without us."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from command_line import Aurora, OwnData
from peft import PeftModel, get_peft_model
from PIL import Image
from tiny_blip import HEADS, batch, fill, tiny_config, tiny_tokenizer
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, BlipForImageTextRetrieval
from without_us import ANSWERS, RETRIEVAL, call_theirs, run_without_us

import aurora_vl
from aurora_vl import AuroraConfig
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, BlipForRetrieval
from aurora_vl.backbones.blip.preparation import IMAGE_MEAN, IMAGE_STD
from aurora_vl.data.transforms import ImageTransform, to_model_input

ENC = tiny_config().text_config.enc_token_id
Changed = Callable[..., Path]


@pytest.fixture
def changed(tmp_path: Path, backbone: Path) -> Changed:
    """Save an adapter that changes the backbone's outputs, as training names things."""

    def save(**settings: Any) -> Path:
        given = {"r": 4, "gqt": "off", "init_weights": False, "modules_to_save": HEADS, **settings}
        torch.manual_seed(1)
        model = get_peft_model(aurora_vl.load(backbone), AuroraConfig(**given))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and ".modules_to_save." in name:
                parameter.data += 0.1
        model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
        return tmp_path / "adapter"

    return save


def calls() -> dict[str, dict[str, Any]]:
    """Two pictures and three captions of transformers' retrieval class, both its heads."""
    given = {k: v for k, v in batch([0, 1, 1], uniforms=False).items() if k != "media_index"}
    fused = given["input_ids"].clone()
    fused[:, 0] = ENC
    return {
        "cosine": {**given, "use_itm_head": False},
        "match": {**given, "input_ids": fused, "use_itm_head": True},
    }


@torch.no_grad()
def ours(model: Any) -> dict[str, Tensor]:
    """The same by our own model, with an adapter or without."""
    blip = model.get_base_model() if isinstance(model, PeftModel) else model
    given = batch([0, 1, 1], uniforms=False)
    ids, mask = given["input_ids"], given["attention_mask"]
    states, images = blip.encode_image(given["pixel_values"])
    texts = blip.encode_text(ids, mask)[1]
    return {
        "cosine": images @ texts.T,
        "match": blip.match(ids, mask, blip.cross_keys(states)),
    }


def adapted(backbone: Path, adapter: Path, dtype: torch.dtype = torch.float64) -> Any:
    return PeftModel.from_pretrained(aurora_vl.load(backbone, dtype=dtype), str(adapter)).eval()


def test_a_lora_gives_the_same_scores_without_us(
    aurora: Aurora, changed: Changed, backbone: Path, tmp_path: Path
) -> None:
    adapter, lora = changed(), tmp_path / "lora"
    outcome = aurora("export", adapter, lora, "--to", "lora")
    assert outcome.status == 0
    assert f"its base model is {backbone}" in outcome.out
    assert "aurora_vl" not in (lora / "adapter_config.json").read_text()
    expected = ours(adapted(backbone, adapter))
    frozen = ours(aurora_vl.load(backbone, dtype=torch.float64))
    found, _ = run_without_us(tmp_path / "job", RETRIEVAL, backbone, calls(), lora)
    for name, scores in expected.items():
        assert (scores - frozen[name]).abs().max() > 1e-2
        torch.testing.assert_close(found[name], scores, rtol=1e-10, atol=1e-10)


def test_merged_weights_are_transformers_own(
    aurora: Aurora, changed: Changed, backbone: Path, tmp_path: Path
) -> None:
    adapter, merged = changed(modules_to_save=[*HEADS, "temperature"]), tmp_path / "new" / "merged"
    outcome = aurora("export", adapter, merged, "--to", "merged")
    assert outcome.status == 0
    assert "for pictures of 16 pixels; transformers' BlipForImageTextRetrieval" in outcome.out
    assert outcome.err == ""
    found, faults = call_theirs(RETRIEVAL, merged, calls())
    assert faults == []
    for name, scores in ours(adapted(backbone, adapter)).items():
        torch.testing.assert_close(found[name], scores, rtol=1e-4, atol=1e-4)
    assert json.loads((merged / "config.json").read_text())["architectures"] == [RETRIEVAL]
    again = aurora_vl.load(merged)  # and still a backbone of ours
    temperature = adapted(backbone, adapter).get_base_model().temperature.weight
    assert again.temperature.weight.item() == pytest.approx(temperature.item())
    assert temperature.item() != pytest.approx(0.07)
    assert [path.name for path in merged.parent.iterdir()] == ["merged"]


def test_merged_folders_read_words_and_pictures_as_training_did(
    aurora: Aurora, changed: Changed, tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    assert aurora("export", changed(), merged, "--to", "merged").status == 0
    text = "the big red dog on a box"
    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert tokenizer(text).input_ids == tiny_tokenizer()(text).input_ids
    picture = Image.radial_gradient("L").resize((40, 30)).convert("RGB")
    processor = AutoImageProcessor.from_pretrained(merged)
    theirs = processor(picture, return_tensors="pt").pixel_values
    pixels = ImageTransform(16).image(picture)[None]
    torch.testing.assert_close(theirs, to_model_input(pixels, IMAGE_MEAN, IMAGE_STD))


@pytest.mark.parametrize("named", ["class", "maps"])
def test_question_answering(aurora: Aurora, tmp_path: Path, named: str) -> None:
    config = tiny_config()
    config.vision_config.hidden_size = config.text_config.encoder_hidden_size = 16
    model = BlipForQuestionAnswering(config)
    fill(model)
    model.save_pretrained(tmp_path / "vqa")
    tiny_tokenizer().save_pretrained(tmp_path / "vqa")
    backbone = aurora_vl.load(tmp_path / "vqa", task="vqa")
    model = get_peft_model(backbone, AuroraConfig(r=4, gqt="off", init_weights=False))
    model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    if named == "maps":  # as an adapter of someone's own class would be
        path = tmp_path / "adapter" / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "auto_mapping": None}))
    outcome = aurora("export", tmp_path / "adapter", tmp_path / "merged", "--to", "merged")
    assert outcome.status == 0
    given = batch([0, 1, 2], uniforms=False)
    ids, pixels = given["input_ids"], given["pixel_values"]
    answers = (
        model.eval().get_base_model().generate(pixels.float(), ids, max_new_tokens=6, num_beams=2)
    )
    frozen = aurora_vl.load(tmp_path / "vqa", task="vqa")
    assert not frozen.generate(pixels.float(), ids, max_new_tokens=6, num_beams=2).equal(answers)
    fused = ids.clone()
    fused[:, 0] = ENC
    settings = {"max_new_tokens": 6, "num_beams": 2, "do_sample": False}
    call = {"answers": {"pixel_values": pixels, "input_ids": fused, **settings}}
    found, faults = call_theirs(ANSWERS, tmp_path / "merged", call)
    assert faults == []
    assert found["answers"].equal(answers)


def test_the_image_size_is_the_trained_one(
    aurora: Aurora, changed: Changed, tmp_path: Path
) -> None:
    adapter = changed()
    (tmp_path / "recipe.yaml").write_text("image_size: 24\n")  # as beside a run's adapter
    for arguments, size in (([], 24), (["--image-size", 32], 32)):
        merged = tmp_path / f"merged-{size}"
        assert aurora("export", adapter, merged, "--to", "merged", *arguments).status == 0
        model = BlipForImageTextRetrieval.from_pretrained(merged)
        assert model.config.vision_config.image_size == size
        assert AutoImageProcessor.from_pretrained(merged).size["height"] == size


@pytest.mark.parametrize("task", ["retrieval", "vqa"])
def test_the_bundled_model_is_explained(
    aurora: Aurora, tmp_path: Path, task: Literal["retrieval", "vqa"]
) -> None:
    model = get_peft_model(aurora_vl.load("mini", task=task), AuroraConfig(r=2, gqt="off"))
    model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    outcome = aurora("export", tmp_path / "adapter", tmp_path / "lora", "--to", "lora")
    assert outcome.status == 0
    command = outcome.out.split('python -c "')[1].split('"')[0]
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert aurora_vl.load(str(tmp_path / "mini"), task=task)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "mini")
    ours = aurora_vl.load_tokenizer("mini")
    assert theirs("a red rose").input_ids == ours("a red rose").input_ids
    other = aurora(
        *("export", tmp_path / "adapter", tmp_path / "named", "--to", "lora"),
        *("--backbone", "somebody/blip"),
    )
    assert "its base model is somebody/blip" in other.out
    config = json.loads((tmp_path / "named" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "somebody/blip"


@pytest.mark.parametrize("form", ["lora", "merged"])
def test_query_gates_are_refused_with_the_way_out(
    aurora: Aurora, changed: Changed, tmp_path: Path, form: str
) -> None:
    outcome = aurora("export", changed(gqt="released"), tmp_path / "out", "--to", form)
    assert outcome.status == 2
    assert "train again with adapter.gqt=off" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["lora", "merged"])
def test_nothing_is_overwritten(
    aurora: Aurora, changed: Changed, tmp_path: Path, form: str
) -> None:
    adapter = changed()
    for name in ("file", "full/mine"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("file", "full"):
        outcome = aurora("export", adapter, tmp_path / name, "--to", form)
        assert outcome.status == 2
        assert "is not an empty folder; give a new folder" in outcome.err
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    assert aurora("export", adapter, tmp_path / "link", "--to", form).status == 0
    assert any((tmp_path / "empty").iterdir())


def test_what_is_refused(
    aurora: Aurora, changed: Changed, wider_backbone: Path, own_data: OwnData, tmp_path: Path
) -> None:
    adapter, out = changed(), tmp_path / "out"
    refusals = [
        ((adapter, out, "--to", "onnx"), "'lora', 'merged'"),
        ((adapter, out), "--to"),
        ((tmp_path / "absent", out, "--to", "lora"), "does not exist"),
        ((wider_backbone, out, "--to", "merged"), "it lacks adapter_config.json"),
        ((adapter, out, "--to", "merged", "--backbone", wider_backbone), "does not fit"),
        ((adapter, out, "--to", "merged", "--backbone", tmp_path / "no"), "there is no folder"),
        ((adapter, out, "--to", "merged", "--image-size", 17), "not a multiple of the patch"),
        ((adapter, out, "--to", "lora", "--image-size", 16), "belongs to --to merged"),
    ]
    for arguments, sentence in refusals:
        outcome = aurora("export", *arguments)
        assert outcome.status == 2, arguments
        assert sentence in outcome.err
    before = {path.name for path in tmp_path.iterdir()}
    assert before == {"adapter", "own"}  # nothing half-written is left


def test_a_failure_while_writing_leaves_nothing(
    aurora: Aurora, changed: Changed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = changed()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BlipForRetrieval, "save_pretrained", full)
    outcome = aurora("export", adapter, tmp_path / "out", "--to", "merged")
    assert outcome.status == 1
    assert "No space left" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_broken_adapter_is_not_merged(aurora: Aurora, changed: Changed, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = changed() / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.aurora_core"][0] = float("nan")
    save_file(tensors, path)
    outcome = aurora("export", path.parent, tmp_path / "out", "--to", "merged")
    assert outcome.status == 2
    assert "cannot be merged: NaNs detected" in outcome.err
