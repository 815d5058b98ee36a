"""Questions about one file: which words, image size and frames an adapter is asked with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from tiny_blip import fill, tiny_config, tiny_tokenizer

import aurora_vl
from aurora_vl import AuroraConfig
from aurora_vl.backbones.blip.loading import load_tokenizer
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering
from aurora_vl.data.media import kind_of_file
from aurora_vl.data.records import QuestionRecord
from aurora_vl.data.synthetic.files import write_picture, write_video
from aurora_vl.data.synthetic.scenes import Group, Scene
from aurora_vl.data.synthetic.spec import WorldSpec
from aurora_vl.errors import UserError
from aurora_vl.evaluation.answering import AnsweringPlan, answer_questions
from aurora_vl.inference.asking import answer_about
from aurora_vl.inference.loading import load_tuned

FLAT = WorldSpec(style="flat")
SCENE = Scene("grass", (Group("box", "blue", "big", ((1, 1),), "moves left"),), texture=1)
QUESTION = "what color is the box"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_picture(tmp_path / "box.jpg", SCENE, FLAT)
    return tmp_path / "box.jpg"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    write_video(tmp_path / "box.mp4", SCENE, FLAT)
    return tmp_path / "box.mp4"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter that changes mini's answers, in a run's folder without a recipe."""
    torch.manual_seed(1)
    backbone = aurora_vl.load("mini", task="vqa")
    model = get_peft_model(backbone, AuroraConfig(r=2, init_weights=False))
    model.peft_config["default"].base_model_name_or_path = "mini"
    model.save_pretrained(str(tmp_path / "run" / "adapter"), save_embedding_layers=False)
    return tmp_path / "run" / "adapter"


def likelihood(media: Path, adapter: Path, *, image_size: int | None = None, frames: int) -> float:
    """Of the written answer, by the parts that evaluate uses."""
    model = load_tuned("mini", adapter, "vqa", image_size)
    record = QuestionRecord(0, str(media), media, kind_of_file(media), QUESTION, ())
    plan = AnsweringPlan(inference="generate", frames=frames)
    (answer,) = answer_questions(model, load_tokenizer("mini"), [record], plan)
    return answer.log_likelihood


def test_a_fully_tuned_model_reads_with_its_own_tokenizer(picture: Path, tmp_path: Path) -> None:
    config = tiny_config()
    config.vision_config.hidden_size = config.text_config.encoder_hidden_size = 16
    model = BlipForQuestionAnswering(config)
    fill(model)
    model.save_pretrained(tmp_path / "adapter")
    tiny_tokenizer().save_pretrained(tmp_path / "adapter")
    question = "the big red box"
    found = answer_about(picture, question, adapter=tmp_path / "adapter")
    assert found == answer_about(picture, question, backbone=str(tmp_path / "adapter"))


def test_the_image_size_is_the_trained_one(picture: Path, adapter: Path) -> None:
    usual = answer_about(picture, QUESTION, adapter=adapter)["log_likelihood"]
    assert usual == pytest.approx(likelihood(picture, adapter, frames=8))
    (adapter.parent / "recipe.yaml").write_text("image_size: 32\n")
    found = answer_about(picture, QUESTION, adapter=adapter)["log_likelihood"]
    assert found == pytest.approx(likelihood(picture, adapter, image_size=32, frames=8))
    assert found != pytest.approx(usual)


def test_the_frames_are_as_many_as_in_training(video: Path, adapter: Path) -> None:
    usual = answer_about(video, QUESTION, adapter=adapter)["log_likelihood"]
    (adapter.parent / "recipe.yaml").write_text("image_size: null\ndata: {frames: 2}\n")
    found = answer_about(video, QUESTION, adapter=adapter)["log_likelihood"]
    assert found == pytest.approx(likelihood(video, adapter, frames=2))
    assert found != pytest.approx(usual)


def test_questions_are_cut_as_in_training(picture: Path, adapter: Path) -> None:
    (adapter.parent / "recipe.yaml").write_text("data: {max_words: 2}\n")
    found = answer_about(picture, QUESTION, adapter=adapter)["log_likelihood"]
    (adapter.parent / "recipe.yaml").unlink()
    cut = answer_about(picture, "what color", adapter=adapter)["log_likelihood"]
    assert found == pytest.approx(cut)
    usual = answer_about(picture, QUESTION, adapter=adapter)["log_likelihood"]
    assert found != pytest.approx(usual)


def test_a_broken_recipe_is_one_sentence(picture: Path, adapter: Path) -> None:
    recipe = adapter.parent / "recipe.yaml"
    recipe.write_text("data: {\n")
    with pytest.raises(UserError) as caught:
        answer_about(picture, QUESTION, adapter=adapter)
    text = str(caught.value)
    assert text.startswith(f"{recipe}, a run's recipe, cannot be read")
    assert text.endswith("; mend or remove it.")
    assert "\n" not in text
