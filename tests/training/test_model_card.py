"""The README.md beside an adapter: what it says is true, and what it tells to do works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel

from aurora_vl.inference.settings import AdapterSettings, save_tuned
from aurora_vl.recipes.recipe import Recipe, load_recipe
from aurora_vl.training.building import build_model
from aurora_vl.training.model_card import TrainingFacts, model_card
from aurora_vl.training.run import evaluate, train

MakeRecipe = Callable[..., Recipe]


def block(card: str, language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def scores(card: str) -> dict[str, list[str]]:
    rows = re.findall(r"^\| `(\w+)` +\|(.*)\|$", card, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


def test_the_card_of_a_run(
    make_recipe: MakeRecipe, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    before = evaluate(recipe)["metrics"]
    content = train(recipe)
    card = (recipe.output / "adapter" / "README.md").read_text()
    assert "[More Information Needed]" not in card  # PEFT's own card

    front = yaml.safe_load(card.split("---\n")[1])
    assert front["base_model"] == str(backbone)
    assert front["library_name"] == "peft"
    assert {"aurora", "retrieval", f"base_model:adapter:{backbone}"} == set(front["tags"])

    assert scores(card) == {
        name: [f"{before[name]:.2f}", f"{value:.2f}"] for name, value in content["metrics"].items()
    }
    trained, total = content["trainable_parameters"], content["total_parameters"]
    assert f"{trained:,} parameters were trained" in card
    assert f"{100 * trained / total:.2f} % of the {total:,}" in card
    assert "13 training items" in card
    assert "| steps | 12 (3 epochs, 4 items a step) |" in card
    assert re.search(r"\| state kept \| step (3|6|9|12), the best on validation data \|", card)
    assert "| learning rate | 0.01, of the heads 0.001 |" in card
    assert "| seed | 42 |" in card
    for name, number in content["versions"].items():
        assert f"{name} {number}" in card

    (tmp_path / "again.yaml").write_text(block(card, "yaml"))
    assert load_recipe(str(tmp_path / "again.yaml")) == recipe
    assert "$ aurora train recipe.yaml" in card
    assert "$ aurora evaluate recipe.yaml --adapter adapter" in card

    monkeypatch.chdir(recipe.output)
    names: dict[str, Any] = {}
    exec(block(card, "python"), names)
    assert isinstance(names["model"], PeftModel)
    state = torch.cat(
        [p.flatten() for n, p in names["model"].named_parameters() if "aurora_V" in n]
    )
    assert state.abs().max() > 0


def test_zero_shot_scores_are_shown_only_of_the_same_data_and_settings(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe("training.epochs=1", "training.checkpoints=false")
    path = recipe.output / "evaluation-zero-shot" / "metrics.json"
    evaluate(recipe)
    found = json.loads(path.read_text())
    found["config"]["evaluation"]["rerank"] += 1
    path.write_text(json.dumps(found))
    content = train(recipe)
    card = (recipe.output / "adapter" / "README.md").read_text()
    assert scores(card) == {name: [f"{value:.2f}"] for name, value in content["metrics"].items()}
    assert "zero-shot scores on it were not measured" in card
    assert "| state kept | the last |" in card


CONTENT = {
    "metrics": {"r_mean": 61.234},
    "config": {"scored_split": "val"},
    "parameters": {"factors": 1200, "gates": 0, "heads": 34, "backbone": 0},
    "trainable_parameters": 1234,
    "total_parameters": 100_000,
    "seconds": 3.4,
    "seed": 7,
    "versions": {"aurora-vl": "0"},
}


@pytest.mark.parametrize("method", ["lora", "bottleneck", "uniadapter"])
def test_other_methods_are_not_said_to_be_aurora(make_recipe: MakeRecipe, method: str) -> None:
    recipe = make_recipe(f"adapter.method={method}")
    card = model_card(recipe, "retrieval", CONTENT, TrainingFacts(1, None, 13), None)
    assert "1,200 adapter parameters, 34 heads" in card
    assert "shared factors" not in card
    assert "KeyError: 'AURORA'" not in card
    assert ("KeyError: 'BOTTLENECK'" in card) == (method != "lora")


def test_the_card_registers_what_it_loads(
    make_recipe: MakeRecipe, backbone: Path, tmp_path: Path
) -> None:
    """In a process of its own: here every method is registered already."""
    recipe = make_recipe("adapter.method=bottleneck")
    used = AdapterSettings(backbone=recipe.backbone)
    save_tuned(build_model(recipe), tmp_path / "adapter", used, None)
    card = model_card(recipe, "retrieval", CONTENT, TrainingFacts(1, None, 13), None)
    command = [sys.executable, "-c", block(card, "python")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_depends_on_the_recipe(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("image_size=24", "adapter.gqt=off")
    facts = TrainingFacts(steps=1000, kept=None, items=13, processes=8)
    card = model_card(recipe, "retrieval", CONTENT, facts, {"r_mean": 20.0})
    assert "image_size=24)" in block(card, "python")
    assert "query gates" not in card
    assert "1,200 shared factors, core and modes, 34 heads" in card
    assert "4 items on each of 8 processes" in card
    assert scores(card) == {"r_mean": ["20.00", "61.23"]}
    assert "On the split `val`" in card
