"""`variant: released` from the recipe to what is trained, how it learns and how it is scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_line import run_in_process
from in_use import answerer_of
from PIL import Image
from safetensors import safe_open
from tiny_blip import fill, tiny_config, tiny_tokenizer
from torch import nn
from transformers import BlipConfig
from transformers import BlipForQuestionAnswering as OriginalBlip

from aurora_vl.backbones.base import PreparationSettings
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering
from aurora_vl.backbones.blip.preparation import BlipPreprocessor
from aurora_vl.data.records import Splits
from aurora_vl.inference.settings import AdapterSettings
from aurora_vl.objectives.answering import QuestionAnsweringTask
from aurora_vl.objectives.presets import Variant, switches
from aurora_vl.objectives.retrieval import RetrievalTask
from aurora_vl.objectives.switches import RetrievalSwitches
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.building import build_model, in_use
from aurora_vl.training.tasks import kind_of

MakeRecipe = Callable[..., Recipe]
SMALL = (
    *("data.world.train=6", "data.world.val=2", "data.world.test=3", "evaluation.rerank=2"),
    *("training.epochs=1", "training.batch_size=4", "training.validations=1"),
)
TASKS = ("demo-retrieval", "demo-video-retrieval", "demo-vqa", "demo-video-qa")


def module(recipe: Recipe) -> nn.Module:
    tuned = in_use(recipe, build_model(recipe), AdapterSettings())
    return kind_of(recipe).module(recipe, tuned, items=13, epoch_steps=4)


def twins() -> tuple[Any, Any]:
    """Question answering by transformers, which has BLIP's own generation, and by us."""
    config = tiny_config()
    vision = {**config.vision_config.to_dict(), "hidden_size": config.text_config.hidden_size}
    config = BlipConfig(text_config=config.text_config.to_dict(), vision_config=vision)
    theirs, ours = OriginalBlip(config).double(), BlipForQuestionAnswering(config).double()
    fill(theirs)
    bias = theirs.text_decoder.cls.predictions.bias
    bias[:6] -= 20.0  # special tokens but [SEP], which ends an answer now and then
    bias[3] += 20.0
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


@pytest.mark.parametrize("recipe", TASKS)
def test_every_task_trains_and_scores_as_released(recipe: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = (f"data.annotations={tmp_path / 'world'}", f"training.output={run}", *SMALL)
    trained = run_in_process("train", recipe, "variant=released", *settings)
    assert trained.status == 0, trained.err
    written = yaml.safe_load((run / "recipe.yaml").read_text())
    held = {**written["adapter"], **written["objective"], **written["evaluation"]}
    expected = asdict(switches("released"))
    assert {name: held[name] for name in expected} == expected
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    chosen = switches("released").adapter()
    assert {name: config[name] for name in chosen} == chosen
    with safe_open(run / "adapter" / "adapter_model.safetensors", "pt") as file:
        heads = {name.split(".")[2] for name in file.keys() if "aurora" not in name}  # noqa: SIM118
    assert heads == ({"vision_proj", "itm_head"} if "retrieval" in recipe else set())
    again = run_in_process("evaluate", run / "recipe.yaml", "--adapter", run / "adapter", "--json")
    assert again.status == 0, again.err
    assert again.json["metrics"] == json.loads((run / "metrics.json").read_text())["metrics"]


@pytest.mark.parametrize("variant", ["default", "released"])
def test_retrieval_learns_by_the_switches(make_recipe: MakeRecipe, variant: Variant) -> None:
    recipe = make_recipe(f"variant={variant}")
    task = module(recipe)
    assert isinstance(task, RetrievalTask)
    found, chosen = task.settings, switches(variant)
    for switch in fields(RetrievalSwitches):
        assert getattr(found, switch.name) == getattr(chosen, switch.name), switch.name
    without = make_recipe(f"variant={variant}", "objective.frame_aware=false")
    task = module(without)
    assert isinstance(task, RetrievalTask)
    assert task.settings.frame_aware is False


@pytest.mark.parametrize(("variant", "smoothing"), [("default", 0.1), ("released", 0.0)])
def test_answering_learns_and_answers_by_the_switches(
    make_recipe: MakeRecipe, variant: Variant, smoothing: float
) -> None:
    settings = ("task=video-qa", "backbone=mini", "evaluation.inference=generate")
    recipe = make_recipe(f"variant={variant}", *settings)
    task = module(recipe)
    assert isinstance(task, QuestionAnsweringTask)
    assert task.settings.label_smoothing == smoothing
    assert task.settings.divisor == (recipe.data.frames if variant == "released" else 1)
    used = kind_of(recipe).settings(recipe, Splits([], [], []))
    found = (used.beams, used.max_answer_tokens, used.attend_padding)
    assert found == ((3, 9, True) if variant == "released" else (1, 10, False))


@torch.no_grad()
def test_released_answers_are_those_of_the_original_blip(make_recipe: MakeRecipe) -> None:
    """BLIP's own call: `max_length=10`, `num_beams=3` and a question mask of ones."""
    theirs, ours = twins()
    tokenizer = tiny_tokenizer()
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)) for _ in range(8)]
    questions = ["the dog", "a big cat on the box", "a car", "the small round red ball"] * 2

    def answers(variant: str) -> list[str]:
        settings = ("task=vqa", "backbone=mini", "evaluation.inference=generate")
        recipe = make_recipe(f"variant={variant}", *settings)
        used = kind_of(recipe).settings(recipe, Splits([], [], []))
        answerer = answerer_of(ours, tokenizer, **used.model_dump())
        return [str(answer) for answer in answerer.answer(pictures, questions)]

    prepare = BlipPreprocessor(tokenizer, ours.config, PreparationSettings())
    items = prepare.collate([prepare.image(picture) for picture in pictures])
    asked = prepare.texts(questions, "question")
    ids = asked["input_ids"].clone()
    ids[:, 0] = ours.config.text_config.enc_token_id
    written = theirs.generate(
        ids,
        prepare.finish(items, torch.device("cpu"), torch.float64)["pixel_values"],
        attention_mask=asked["attention_mask"],
        max_length=10,
        num_beams=3,
        do_sample=False,
    )
    expected = tokenizer.batch_decode(written[:, 1:], skip_special_tokens=True)  # [DEC] first
    assert answers("released") == expected
    assert max(len(answer.split()) for answer in expected) == 9
    assert answers("default") != expected
