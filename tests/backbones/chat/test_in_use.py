"""Tiny chat models through `Answerer` and the command line, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Aurora, run_in_process
from peft import get_peft_model
from PIL import Image
from tiny_chat_models import KINDS
from videos import write_frames

import aurora_vl
from aurora_vl import Answerer
from aurora_vl.backbones.base import PreparationSettings
from aurora_vl.backbones.families import family_by_name
from aurora_vl.errors import UserError
from aurora_vl.inference.settings import AdapterSettings, save_tuned

Tiny = Callable[[str], Path]
COLOURS = ["red", "green", "blue"]
QUESTION = "what color is the box"


@pytest.fixture
def aurora() -> Iterator[Aurora]:
    return run_in_process


def random_adapter(folder: Path, backbone: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = aurora_vl.load(str(backbone), task="vqa")
    tuned = get_peft_model(model, aurora_vl.AuroraConfig(r=2, init_weights=False))
    settings = AdapterSettings(task="vqa", backbone=str(backbone))
    save_tuned(tuned, folder, settings, None)
    return folder


def write_questions(folder: Path, backbone: Path) -> Path:
    """A recipe over pictures in three colours."""
    for split in ("train", "val", "test"):
        entries = []
        for number, colour in enumerate(COLOURS * 2):
            name = f"{split}{number}.png"
            Image.new("RGB", (40 + number, 36), colour).save(folder / name)
            entries.append({"image": name, "question": QUESTION, "answer": [colour, colour, "yes"]})
        lines = [json.dumps(entry) for entry in entries]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    data = {"kind": "jsonl", "annotations": str(folder), "media": str(folder)}
    recipe: dict[str, Any] = {
        "task": "vqa",
        "backbone": str(backbone),
        "adapter": {"rank": 4},
        "data": {**data, "augmentation": "none"},
        "training": {
            "epochs": 1,
            "batch_size": 3,
            "validations": 1,
            "output": str(folder / "run"),
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_an_answerer_chooses_and_writes(
    kind: str, tiny: Tiny, pictures: list[Image.Image], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    frames = list(rng.integers(0, 256, (6, 2, 2, 3), dtype=np.uint8).repeat(32, 1).repeat(32, 2))
    video = write_frames(tmp_path / "video.mp4", frames)
    answerer = Answerer.load(str(tiny(kind)))
    for medium in (pictures[0], video):
        written = answerer.answer(medium, QUESTION)
        chosen = answerer.answer(medium, QUESTION, answers=COLOURS)
        assert chosen in COLOURS
        assert chosen.log_likelihood < 0
        assert written.log_likelihood < 0
    many = answerer.answer(pictures, QUESTION, answers=COLOURS)
    for picture, one in zip(pictures, many, strict=True):
        alone = answerer.answer(picture, QUESTION, answers=COLOURS)
        assert one == alone
        assert one.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-4)
    assert answerer.answer_blindly([QUESTION], answers=COLOURS)[0] in COLOURS


@pytest.mark.parametrize("kind", ["smolvlm", "qwen3_vl"])
def test_adapters_in_one_call(
    kind: str, tiny: Tiny, pictures: list[Image.Image], tmp_path: Path
) -> None:
    """Pictures of several sizes, each question by the adapter it names."""
    folders = {name: random_adapter(tmp_path / name, tiny(kind), n) for n, name in enumerate("ab")}
    answerer = Answerer.load(str(tiny(kind)), adapters=folders)
    names = ["a", "b", "base"]
    mixed = answerer.answer(pictures, QUESTION, adapter=names, answers=COLOURS)
    likelihoods = set()
    for picture, name, found in zip(pictures, names, mixed, strict=True):
        alone = answerer.answer(picture, QUESTION, adapter=name, answers=COLOURS)
        assert found == alone
        assert found.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-4)
        base = answerer.answer(picture, QUESTION, adapter="base", answers=[str(found)])
        likelihoods.add(abs(base.log_likelihood - found.log_likelihood) > 1e-3)
    assert likelihoods == {True, False}


@pytest.mark.parametrize("kind", KINDS)
def test_train_evaluate_ask_and_count(
    kind: str, tiny: Tiny, aurora: Aurora, tmp_path: Path
) -> None:
    recipe = write_questions(tmp_path, tiny(kind))
    trained = aurora("train", recipe, "--quiet")
    assert trained.status == 0, trained.err
    adapter = tmp_path / "run" / "adapter"
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())
    scored = aurora("evaluate", recipe, "--adapter", adapter, "--json")
    assert scored.status == 0, scored.err
    assert scored.json["metrics"]["accuracy"] == kept["metrics"]["accuracy"]
    asked = aurora(
        "ask", tmp_path / "test0.png", QUESTION, "--backbone", tiny(kind), "--adapter", adapter
    )
    assert (asked.status, asked.out.strip() in {*COLOURS, "yes"}) == (0, True)
    counted = aurora("params", recipe, "--json").json
    weights = (adapter / "adapter_model.safetensors").stat().st_size
    assert 0 < counted["adapter_parameters"] * 4 < weights < counted["total_parameters"] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_unmerged(
    kind: str, tiny: Tiny, pictures: list[Image.Image], aurora: Aurora, tmp_path: Path
) -> None:
    """The merged folder is a model of transformers with its processor, and answers alike."""
    adapter = random_adapter(tmp_path / "adapter", tiny(kind), 0)
    merged = tmp_path / "merged"
    outcome = aurora("export", adapter, merged, "--to", "merged")
    assert outcome.status == 0, outcome.err
    tuned = Answerer.load(adapter=adapter).answer(pictures, QUESTION, answers=COLOURS)
    found = Answerer.load(str(merged)).answer(pictures, QUESTION, answers=COLOURS)
    for one, other in zip(tuned, found, strict=True):
        assert one == other
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_preprocessor_goes_to_another_process(
    kind: str, tiny: Tiny, pictures: list[Image.Image]
) -> None:
    folder = str(tiny(kind))
    family = family_by_name(folder)
    model = aurora_vl.load(folder, task="vqa")
    prepare = family.preprocessor(model, family.tokenizer(folder), PreparationSettings())
    there = pickle.loads(pickle.dumps(prepare))
    for name, tensor in prepare.image(pictures[0]).items():
        assert torch.equal(there.image(pictures[0])[name], tensor)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("task=retrieval",), "is a chat model, which answers questions"),
        (("image_size=64",), "image_size is not for the chat model"),
        (("data.augmentation=safe",), "set data.augmentation to none"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(
    settings: tuple[str, ...], sentence: str, tiny: Tiny, aurora: Aurora, tmp_path: Path
) -> None:
    recipe = write_questions(tmp_path, tiny("smolvlm"))
    if settings == ("task=retrieval",):
        for split in ("train", "val", "test"):
            line = json.dumps({"image": f"{split}0.png", "caption": "a red box"})
            (tmp_path / f"{split}.jsonl").write_text(line + "\n")
    outcome = aurora("train", recipe, *settings)
    assert outcome.status == 2
    assert sentence in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("chat_template.jinja", "has no chat template"),
        ("preprocessor_config.json", "holds no processor that can be read"),
        ("tokenizer.json", "holds no processor that can be read"),
        ("model.safetensors", "cannot be loaded"),
    ],
)
def test_a_missing_file_is_named(
    missing: str, sentence: str, tiny: Tiny, aurora: Aurora, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny("smolvlm"), tmp_path / "model")
    (folder / missing).unlink()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    outcome = aurora("ask", tmp_path / "red.png", QUESTION, "--backbone", folder)
    assert outcome.status == 2
    assert sentence in " ".join(outcome.err.split())


def test_pictures_that_do_not_fit_the_context(tiny: Tiny) -> None:
    answerer = Answerer.load(str(tiny("qwen3_vl")))
    prepare = answerer.tuned.preprocessor(PreparationSettings(frames=40))
    frame = Image.new("RGB", (64, 64), "red")
    with pytest.raises(UserError, match=r"40 pictures of a medium take \d+ tokens"):
        prepare.video([frame] * 40)


def test_a_template_without_pictures(tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("smolvlm"), tmp_path / "model")
    template = "{% for message in messages %}{{ message.role }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match="does not take pictures followed by a question"):
        Answerer.load(str(folder))
