"""A family without a matcher, from its data to its exports, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import run_in_process
from dual_blip import save_dual_backbone
from small_runs import data

from aurora_vl import Retriever
from aurora_vl.errors import UserError

__all__ = ["data"]
TARGETS = ["qkv", "projection", "fc1", "fc2", "query", "key", "value"]


@pytest.fixture
def recipe(tmp_path: Path, data: Path) -> Path:
    raw = {
        "task": "retrieval",
        "backbone": str(save_dual_backbone(tmp_path / "backbone")),
        "adapter": {"rank": 4, "gqt": "off", "options": {"target_modules": TARGETS}},
        "objective": {"queue": 6, "momentum": 0.9},
        "data": {"kind": "jsonl", "annotations": str(data), "media": str(data)},
        "training": {
            "epochs": 2,
            "batch_size": 4,
            "validations": 2,
            "learning_rate": 0.01,
            "output": str(tmp_path / "run"),
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def aurora(*words: object) -> str:
    outcome = run_in_process(*words)
    assert outcome.status == 0, outcome.err
    return outcome.out


def test_every_command(
    recipe: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aurora("check-data", recipe)
    counted = json.loads(aurora("params", recipe, "--json"))
    assert not any("itm_head" in module["module"] for module in counted["modules"])
    aurora("train", recipe)
    run = tmp_path / "run"
    history = json.loads((run / "history.json").read_text())
    parts = {name for entry in history for name in entry if name.startswith("loss")}
    assert parts == {"loss", "loss_itc"}
    again = json.loads(aurora("evaluate", recipe, "--adapter", run / "adapter", "--json"))
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert again["metrics"] == metrics

    # One stage: what ranks are the features, as a retriever gives them.
    retriever = Retriever.load(adapter=run / "adapter")
    pictures = sorted(data.glob("test-*.jpg"))
    captions = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    told = json.loads((run / "predictions.json").read_text())["text_to_media"]
    texts = [text for line in captions for text in line["caption"]]
    cosines = retriever.encode_texts(texts) @ retriever.encode_images(pictures).T
    for entry, row in zip(told, cosines, strict=True):
        assert entry["media"][0] == pictures[int(np.argmax(row))].name
    with pytest.raises(UserError, match="has no matching head"):
        retriever.match(texts, pictures)

    aurora("export", run / "adapter", tmp_path / "lora", "--to", "lora")
    aurora("export", run / "adapter", tmp_path / "merged", "--to", "merged")
    assert (tmp_path / "lora" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "merged" / "model.safetensors").is_file()

    # Runs of a comparison are processes of their own, which must know the family too.
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import dual_blip\n")
    support = Path(__file__).parents[1] / "support"
    package = Path(__file__).parents[2] / "src"
    monkeypatch.setenv("PYTHONPATH", f"{site}:{support}:{package}")
    settings = ("comparison.trials=1", "--seeds", 1, "--out", tmp_path / "compared")
    aurora("compare", recipe, "--methods", "none,linear,aurora", *settings)
    rows = json.loads((tmp_path / "compared" / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["none", "linear", "aurora"]


def test_questions_are_refused(recipe: Path) -> None:
    outcome = run_in_process("params", recipe, "task=vqa")
    assert outcome.status == 2
    assert "cannot answer questions" in outcome.err
