"""Runs from recipe to metrics: what they train, write, choose and refuse."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from aurora_vl.backbones.blip.dual_encoder import retrieval_backbone
from aurora_vl.backbones.blip.preparation import IMAGE_MEAN, IMAGE_STD
from aurora_vl.data.datasets import RetrievalTrainSet
from aurora_vl.data.transforms import ImageTransform, to_model_input
from aurora_vl.errors import UserError
from aurora_vl.evaluation.retrieval import RetrievalResult
from aurora_vl.objectives.retrieval import RetrievalTask
from aurora_vl.recipes.recipe import Recipe, load_recipe, save_recipe
from aurora_vl.training import run
from aurora_vl.training.checkpoints import STATE_FILE, newest_checkpoint
from aurora_vl.training.recipe_data import read_data, read_splits
from aurora_vl.training.run import evaluate, train
from aurora_vl.training.tasks import retrieval as kind

MakeRecipe = Callable[..., Recipe]
RECALLS = [f"{side}_r{k}" for side in ("i2t", "t2i") for k in (1, 5, 10)]
METRICS = [*RECALLS, "r_mean", "i2t_mdr", "t2i_mdr", "i2t_mnr", "t2i_mnr"]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The models that runs build, for looking at them afterwards."""
    built: list[nn.Module] = []
    build = run.build_model

    def keep(recipe: Recipe, **kwargs: Any) -> nn.Module:
        built.append(build(recipe, **kwargs))
        return built[-1]

    monkeypatch.setattr(run, "build_model", keep)
    return built


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each training step was given."""
    seen: list[dict[str, Any]] = []
    forward = RetrievalTask.forward

    def record(task: RetrievalTask, **given: Any) -> Any:
        seen.append(given)
        return forward(task, **given)

    monkeypatch.setattr(RetrievalTask, "forward", record)
    return seen


def validations(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Let the validations of a run have these r_mean, and its test 77."""
    left = iter([*scores, 77.0])

    def scored(*args: Any, **kwargs: Any) -> RetrievalResult:
        metrics = dict.fromkeys(METRICS, 0.0) | {"r_mean": next(left)}
        texts = sum(len(record.captions) for record in args[1])
        ranks = np.ones(len(args[1]), int), np.ones(texts, int)
        scores = torch.zeros(len(args[1]), texts)
        return RetrievalResult(scores, scores.T, *ranks, metrics)

    monkeypatch.setattr(kind, "evaluate_retrieval", scored)


@pytest.mark.parametrize("method", ["aurora", "full"])
def test_what_a_run_leaves(
    make_recipe: MakeRecipe, models: list[nn.Module], backbone: Path, method: str
) -> None:
    recipe = make_recipe(f"adapter.method={method}")
    content = train(recipe)
    out = recipe.output

    assert json.loads((out / "metrics.json").read_text()) == content
    assert sorted(content["metrics"]) == sorted(METRICS)
    assert all(0 <= content["metrics"][name] <= 100 for name in [*RECALLS, "r_mean"])
    recalls = [content["metrics"][name] for name in RECALLS]
    assert content["metrics"]["r_mean"] == pytest.approx(sum(recalls) / 6, abs=1e-3)
    assert content["config"]["training"]["learning_rate"] == 0.01
    assert content["config"]["scored_split"] == "test"
    assert content["seed"] == 42
    assert content["seconds"] > 0
    assert {"aurora-vl", "torch", "transformers", "peft"} <= set(content["versions"])
    trained = {n: p for n, p in models[0].named_parameters() if p.requires_grad}
    assert content["trainable_parameters"] == sum(p.numel() for p in trained.values())
    assert content["trainable_parameters"] <= content["total_parameters"]
    assert sum(content["parameters"].values()) - content["parameters"]["total"] == sum(
        p.numel() for p in trained.values()
    )

    assert load_recipe(str(out / "recipe.yaml")) == recipe
    history = json.loads((out / "history.json").read_text())
    losses = [entry for entry in history if "loss" in entry]
    assert [entry["step"] for entry in losses] == list(range(1, 13))
    for entry in losses:
        assert entry["loss"] == pytest.approx(entry["loss_itc"] + entry["loss_itm"], abs=1e-3)
    assert [e["step"] for e in history if "eval_r_mean" in e] == [3, 6, 9, 12]
    predictions = json.loads((out / "predictions.json").read_text())
    assert [len(predictions[side]) for side in ("media_to_text", "text_to_media")] == [4, 5]
    told = [query["of"] for query in predictions["text_to_media"]]
    assert sorted(told) == sorted([*set(told), max(told, key=told.count)])  # one has two captions
    assert list((out / "logs").glob("events.*"))
    assert len(list((out / "checkpoints").iterdir())) == 2
    adapter = {file.name for file in (out / "adapter").iterdir()}
    if method == "aurora":
        assert {"adapter_config.json", "adapter_model.safetensors"} <= adapter
        config = json.loads((out / "adapter" / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == str(backbone)
        numbers = load_file(out / "adapter" / "adapter_model.safetensors").values()
        assert sum(value.numel() for value in numbers) == content["trainable_parameters"]
    else:
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= adapter


@pytest.mark.parametrize("method", ["aurora", "full", "vera"])
def test_the_saved_adapter_scores_as_the_run_did(make_recipe: MakeRecipe, method: str) -> None:
    recipe = make_recipe(f"adapter.method={method}", "training.epochs=1")
    content = train(recipe)
    before = (recipe.output / "metrics.json").read_bytes()
    (recipe.output / "adapter" / "stray.safetensors").write_bytes(b"junk")  # is left alone
    again = evaluate(recipe, adapter=recipe.output / "adapter")
    assert again["metrics"] == content["metrics"]
    assert again["trainable_parameters"] == content["trainable_parameters"]
    assert again["parameters"] == content["parameters"]
    assert (recipe.output / "evaluation-adapter" / "predictions.json").read_bytes() == (
        recipe.output / "predictions.json"
    ).read_bytes()
    assert (recipe.output / "metrics.json").read_bytes() == before


def test_saved_heads_count_as_heads_in_question_answering(tmp_path: Path) -> None:
    """Their names tell nothing of it there: the adapter's configuration does."""
    world = [f"data.world.{split}=3" for split in ("train", "val", "test")]
    places = [f"data.annotations={tmp_path / 'world'}", f"training.output={tmp_path / 'run'}"]
    small = ["training.epochs=1", "training.validations=1", "data.augmentation=none"]
    recipe = load_recipe("demo-vqa", ["adapter.method=linear", *world, *places, *small])
    content = train(recipe)
    assert content["parameters"]["heads"] == content["trainable_parameters"] > 0
    again = evaluate(recipe, adapter=tmp_path / "run" / "adapter")
    assert again["parameters"] == content["parameters"]


def test_zero_shot_is_no_run(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """It may come before training, and goes where it is told."""
    recipe = make_recipe("training.epochs=1")
    content = evaluate(recipe)
    assert content["trainable_parameters"] == 0
    total = content["total_parameters"]
    parts = {"factors": 0, "gates": 0, "heads": 0, "backbone": 0, "total": total}
    assert content["parameters"] == parts
    assert (
        json.loads((recipe.output / "evaluation-zero-shot" / "metrics.json").read_text()) == content
    )
    assert evaluate(recipe, out=tmp_path / "else")["metrics"] == content["metrics"]
    assert (tmp_path / "else" / "predictions.json").is_file()
    assert train(recipe)["metrics"]


@pytest.mark.parametrize("temperature", ["true", "false"])
def test_only_what_is_trained_changes(
    make_recipe: MakeRecipe, models: list[nn.Module], backbone: Path, temperature: str
) -> None:
    recipe = make_recipe(f"objective.train_temperature={temperature}")
    train(recipe)
    start = load_file(backbone / "model.safetensors")
    inner = retrieval_backbone(models[0])
    frozen = {
        name.replace(".base_layer", "").replace(".original_module", ""): parameter
        for name, parameter in inner.named_parameters()
        if not parameter.requires_grad
    }
    assert set(start) <= {*frozen, "temperature.weight"}
    for name, value in start.items():
        assert torch.equal(frozen[name], value), name
    fresh = run.build_model(recipe)
    trained = {n: p for n, p in fresh.named_parameters() if p.requires_grad}
    after = dict(models[0].named_parameters())
    assert any("temperature" in name for name in trained) is (temperature == "true")
    assert all(not torch.equal(value, after[name]) for name, value in trained.items())


def test_heads_have_their_own_learning_rate(
    make_recipe: MakeRecipe, models: list[nn.Module]
) -> None:
    """One so small that float32 does not see it leaves the heads alone, and only them."""
    train(make_recipe("training.epochs=1", "training.head_learning_rate=1e-30"))
    fresh = dict(run.build_model(make_recipe()).named_parameters())
    for name, parameter in models[0].named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter, fresh[name]) is ("modules_to_save" in name), name


@pytest.mark.parametrize(("limit", "moves"), [("1e-30", False), ("null", True)])
def test_gradients_are_shortened_to_a_norm(
    make_recipe: MakeRecipe, models: list[nn.Module], limit: str, moves: bool
) -> None:
    """To one that AdamW's epsilon swallows V stays at zero; without any it learns."""
    train(make_recipe("training.epochs=1", f"training.max_gradient_norm={limit}"))
    after = dict(models[0].named_parameters())
    outputs = [p.detach().abs().max().item() for n, p in after.items() if "aurora_V_" in n]
    assert (max(outputs) > 1e-5) is moves
    assert (max(outputs) < 1e-20) is not moves


def test_factors_on_the_output_side_have_their_own_learning_rate(
    make_recipe: MakeRecipe, models: list[nn.Module]
) -> None:
    """One so small that float32 does not see it leaves V at zero; the gates learn."""
    train(make_recipe("training.epochs=1", "training.factor_rate_ratio=1e-30"))
    after = dict(models[0].named_parameters())
    outputs = [p for name, p in after.items() if "aurora_V_" in name]
    gates = [p for name, p in after.items() if "aurora_gate" in name]
    assert outputs
    assert max(p.detach().abs().max().item() for p in outputs) < 1e-20
    assert all(p.any() for p in gates)


def test_the_best_checkpoint_is_taken(
    make_recipe: MakeRecipe, models: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    validations(monkeypatch, [10.0, 50.0, 20.0, 30.0])
    recipe = make_recipe()
    content = train(recipe)
    assert content["metrics"]["r_mean"] == 77.0
    checkpoints = recipe.output / "checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["checkpoint-12", "checkpoint-6"]
    best = load_file(checkpoints / "checkpoint-6" / STATE_FILE)
    last = load_file(checkpoints / "checkpoint-12" / STATE_FILE)
    trained = {n: p for n, p in models[0].named_parameters() if p.requires_grad}
    assert all(torch.equal(p, best[f"model.{name}"]) for name, p in trained.items())
    assert not all(torch.equal(p, last[f"model.{name}"]) for name, p in trained.items())


def test_without_checkpoints_the_last_state_is_kept(
    make_recipe: MakeRecipe, steps: list[dict[str, Any]]
) -> None:
    recipe = make_recipe("training.checkpoints=false", "objective.queue=0")
    content = train(recipe)
    assert len(steps) == 12
    assert newest_checkpoint(recipe.output / "checkpoints") is None
    assert evaluate(recipe, adapter=recipe.output / "adapter")["metrics"] == content["metrics"]


def test_the_last_step_is_validated_wherever_it_falls(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("training.validations=5")
    steps = math.ceil(12 / 5)
    train(recipe)
    history = json.loads((recipe.output / "history.json").read_text())
    found = [entry["step"] for entry in history if "eval_r_mean" in entry]
    assert found == list(range(steps, 13, steps))
    recipe = make_recipe("training.validations=2", "training.batch_size=5", output="uneven")
    train(recipe)  # 9 steps, validated every 5
    history = json.loads((recipe.output / "history.json").read_text())
    assert [entry["step"] for entry in history if "eval_r_mean" in entry] == [5, 9]
    newest = newest_checkpoint(recipe.output / "checkpoints")
    assert newest is not None
    assert newest.name == "checkpoint-9"


@pytest.mark.parametrize("workers", [0, 1])
def test_items_see_their_epoch(
    make_recipe: MakeRecipe, steps: list[dict[str, Any]], workers: int
) -> None:
    """The crop and the negatives' numbers of a pair are those of (seed, epoch, item)."""
    recipe = make_recipe("data.augmentation=none", f"data.workers={workers}")
    train(recipe)
    records = read_data(recipe).train
    wanted = RetrievalTrainSet(records, ImageTransform(16, (0.5, 1.0)), seed=42)
    assert len(steps) == 12
    for epoch in range(3):
        wanted.set_epoch(epoch)
        items = {
            tuple(item["uniforms"][0].tolist()): item for item in map(wanted.__getitem__, range(13))
        }
        for given in steps[4 * epoch : 4 * epoch + 4]:
            for row, uniforms in enumerate(given["uniforms"].tolist()):
                item = items.pop(tuple(uniforms))
                pixels = to_model_input(item["media"][None], IMAGE_MEAN, IMAGE_STD)[0]
                assert torch.equal(given["media"]["pixel_values"][row], pixels)
                assert int(given["media_index"][row]) == item["media_index"]
        assert not items  # every pair once an epoch


def test_augmentation_is_for_training(make_recipe: MakeRecipe, steps: list[dict[str, Any]]) -> None:
    seen = {}
    for level in ("none", "safe", "full"):
        steps.clear()
        train(make_recipe(f"data.augmentation={level}", "training.epochs=1", output=level))
        seen[level] = torch.cat([given["media"]["pixel_values"] for given in steps])
    assert not torch.equal(seen["none"], seen["safe"])
    assert not torch.equal(seen["safe"], seen["full"])


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_damaged_picture_to_be_scored_stops_a_run_before_it_trains(
    make_recipe: MakeRecipe, steps: list[dict[str, Any]], data: Path, tmp_path: Path, split: str
) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(data, spoilt)
    file = spoilt / f"{split}-2.jpg"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(UserError, match=rf"{file.name} is damaged"):
        train(make_recipe(f"data.annotations={spoilt}", f"data.media={spoilt}"))
    assert not steps


def test_a_picture_damaged_during_training_leaves_the_adapter(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path
) -> None:
    """Once it is mended, the same command with --resume finishes the run."""
    whole = train(make_recipe(output="whole"))
    spoilt = tmp_path / "spoilt"
    shutil.copytree(data, spoilt)
    file = spoilt / "test-2.jpg"
    recipe = make_recipe(f"data.annotations={spoilt}", f"data.media={spoilt}")
    forward = RetrievalTask.forward

    def spoil(task: RetrievalTask, **given: Any) -> Any:
        file.write_bytes(b"nothing")
        return forward(task, **given)

    monkeypatch.setattr(RetrievalTask, "forward", spoil)
    with pytest.raises(UserError) as caught:
        train(recipe)
    assert str(file) in str(caught.value)
    assert str(caught.value).endswith(
        f"; the adapter is in {recipe.output / 'adapter'}, and the same command with --resume "
        "scores it."
    )
    adapter = recipe.output / "adapter"
    assert sorted(path.name for path in adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    shutil.copy(data / file.name, file)
    assert train(recipe, resume=True)["metrics"] == whole["metrics"]
    assert (adapter / "README.md").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [1, 5])
def test_a_diverging_loss_stops_the_run(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, step: int, value: float
) -> None:
    calls = []
    forward = RetrievalTask.forward

    def diverge(task: RetrievalTask, **given: Any) -> Any:
        calls.append(1)
        losses = forward(task, **given)
        return {**losses, "loss": losses["loss"] * value} if len(calls) == step else losses

    monkeypatch.setattr(RetrievalTask, "forward", diverge)
    recipe = make_recipe()
    with pytest.raises(UserError) as caught:
        train(recipe)
    assert str(caught.value) == (
        f"the loss is {value} at step {step}; "
        "set a lower training.learning_rate and a new folder as training.output."
    )
    newest = newest_checkpoint(recipe.output / "checkpoints")
    assert (newest and newest.name) == (None if step == 1 else "checkpoint-3")


def test_an_existing_run_is_not_mixed_with_another(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("training.epochs=1")
    content = train(recipe)
    with pytest.raises(UserError) as caught:
        train(recipe)
    assert str(caught.value) == (
        f"{recipe.output} already holds a run; add --resume to go on with it, or set "
        "training.output to a new folder."
    )
    other = make_recipe("training.epochs=1", "adapter.rank=2")
    with pytest.raises(UserError) as caught:
        train(other, resume=True)
    assert str(caught.value) == (
        f"{recipe.output} was begun with another recipe (adapter.rank differs); "
        "give the same settings, or set training.output to a new folder."
    )
    files = {path: path.stat().st_mtime_ns for path in recipe.output.rglob("*")}
    assert train(recipe, resume=True) == content
    assert {path: path.stat().st_mtime_ns for path in recipe.output.rglob("*")} == files


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", "1" * 5000])
def test_a_finished_run_whose_metrics_are_damaged(make_recipe: MakeRecipe, content: str) -> None:
    recipe = make_recipe()
    save_recipe(recipe, recipe.output / "recipe.yaml")
    (recipe.output / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=r"metrics\.json is damaged; delete it, and .* --resume"):
        train(recipe, resume=True)


@pytest.mark.parametrize("content", [b": [", b"[]", b"", b"\xff\xfe", b"a: " + b"1" * 5000])
def test_a_run_whose_recipe_is_damaged(make_recipe: MakeRecipe, content: bytes) -> None:
    recipe = make_recipe()
    (recipe.output / "adapter").mkdir(parents=True)
    (recipe.output / "recipe.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"recipe\.yaml, a run's recipe, cannot be read \(.*mend"):
        train(recipe, resume=True)


def test_a_method_that_trains_nothing(make_recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match="method none trains nothing; use `aurora evaluate`"):
        train(make_recipe("adapter.method=none"))


def test_each_run_has_its_own_logs(make_recipe: MakeRecipe) -> None:
    for name in ("one", "two"):
        train(make_recipe("training.epochs=1", output=name))
    for name in ("one", "two"):
        logs = make_recipe(output=name).output / "logs"
        assert len(list(logs.glob("events.*"))) == 1


def test_without_tensorboard_the_extra_is_named(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run itself needs none: there are no curves, and one line says so."""
    found = importlib.util.find_spec

    def absent(name: str, package: str | None = None) -> Any:
        return None if name.startswith("tensorboard") else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    recipe = make_recipe("training.epochs=1", "data.augmentation=none")
    with caplog.at_level(logging.INFO, "aurora_vl"):
        assert train(recipe)["metrics"]
    assert not (recipe.output / "logs").exists()
    told = [message for message in caplog.messages if "TensorBoard" in message]
    assert told == ["training curves for TensorBoard need tensorboard: install aurora-vl[train]"]


def test_several_devices_without_torchrun_are_not_used(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's DataParallel would keep a queue on every device and lose them all."""

    def two_devices(arguments: Any) -> torch.device:
        arguments._n_gpu = 2
        return torch.device("cpu")

    monkeypatch.setattr(run.TrainingArguments, "_setup_devices", property(two_devices))
    assert run._arguments(make_recipe(), 13).n_gpu <= 1


def test_notes_and_validations_are_logged(
    make_recipe: MakeRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aurora_vl"):
        train(make_recipe("training.epochs=1", "training.validations=1"))
    assert any("step 4 of 4: validation r_mean" in message for message in caplog.messages)


def test_nothing_on_standard_output(
    make_recipe: MakeRecipe, capfd: pytest.CaptureFixture[str]
) -> None:
    train(make_recipe("training.epochs=1"))
    assert capfd.readouterr().out == ""


def test_the_validation_split_in_the_tests_place(make_recipe: MakeRecipe) -> None:
    """For choosing: what is scored is what validation saw, and the test data stays unread."""
    content = train(make_recipe("evaluation.split=val"))
    history = json.loads((make_recipe().output / "history.json").read_text())
    best = max(row["eval_r_mean"] for row in history if "eval_r_mean" in row)
    assert content["metrics"]["r_mean"] == pytest.approx(best, abs=1e-3)
    assert content["config"]["scored_split"] == "val"
    predictions = json.loads((make_recipe().output / "predictions.json").read_text())
    assert all("val" in row["media"] for row in predictions["media_to_text"])


def test_validation_media_that_another_seed_draws_are_not_scored(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    """The adapter was trained on most of them."""
    own = tmp_path / "lists"
    own.mkdir()
    for split in ("train", "test"):
        shutil.copy(data / f"{split}.jsonl", own)
    settings = (f"data.annotations={own}", "training.epochs=1")
    adapter = make_recipe().output / "adapter"
    train(make_recipe(*settings, "training.seed=3"))
    with pytest.raises(UserError, match=r"give training\.seed=3\.$"):
        evaluate(make_recipe(*settings, "evaluation.split=val"), adapter=adapter)
    same = make_recipe(*settings, "evaluation.split=val", "training.seed=3")
    assert evaluate(same, adapter=adapter)["config"]["scored_split"] == "val"


def test_a_run_begun_before_a_key_existed_is_the_same_run(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    content = train(recipe)
    stored = recipe.output / "recipe.yaml"
    stored.write_text(stored.read_text().replace("  split: test\n", ""))
    assert "split" not in stored.read_text()
    assert train(recipe, resume=True) == content
    with pytest.raises(UserError, match=r"evaluation\.split differs"):
        train(make_recipe("evaluation.split=val"), resume=True)


def test_how_a_comparison_goes_about_it_makes_no_other_run(make_recipe: MakeRecipe) -> None:
    """A run that a killed comparison began goes on in one with more runs side by side."""
    content = train(make_recipe("comparison.parallel=1", "training.epochs=1"))
    again = make_recipe("comparison.parallel=2", "training.epochs=1")
    assert train(again, resume=True) == content


def test_a_limit_on_training_media(make_recipe: MakeRecipe) -> None:
    """Captions follow their pictures; few are among more; the other splits stay whole."""
    whole = read_splits(make_recipe())
    parts = {n: read_splits(make_recipe(f"data.limit={n}")) for n in (2, 5, 99)}
    media = {n: {record.media_id for record in part.train} for n, part in parts.items()}
    assert [len(found) for found in media.values()] == [2, 5, 9]
    assert media[2] < media[5]
    assert all(part.test == whole.test and part.val == whole.val for part in parts.values())
    assert parts[99].train == whole.train
    other = read_splits(make_recipe("data.limit=5", "training.seed=7"))
    assert {record.media_id for record in other.train} != media[5]


def test_layers_computed_again_train_to_the_same_adapter(make_recipe: MakeRecipe) -> None:
    kept = make_recipe("training.epochs=1", output="kept")
    again = make_recipe("training.epochs=1", "training.recompute=[vision, text]", output="again")
    for recipe in (kept, again):
        train(recipe)
    one, other = (
        load_file(recipe.output / "adapter" / "adapter_model.safetensors")
        for recipe in (kept, again)
    )
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.fixture
def partly_absent(make_recipe: MakeRecipe, data: Path, tmp_path: Path) -> Recipe:
    """Questions whose commonest training answer is about pictures that are absent."""
    told = {"gone-0.jpg": "blue", "gone-1.jpg": "blue", "train-0.jpg": "red"}
    splits = {"train": told, "val": {"val-0.jpg": "red"}, "test": {"test-0.jpg": "blue"}}
    folder = tmp_path / "questions"
    folder.mkdir()
    for split, answers in splits.items():
        lines = [
            json.dumps({"image": name, "question": "what color?", "answer": answer})
            for name, answer in answers.items()
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    settings = ("task=vqa", "backbone=mini", "training.epochs=1", "data.on_error=skip")
    return make_recipe(*settings, f"data.annotations={folder}")


def test_what_was_absent_in_training_is_left_out_of_scoring_too(partly_absent: Recipe) -> None:
    """Else other answers stand to choose from, and other baselines beside the score."""
    content = train(partly_absent)
    again = evaluate(partly_absent, adapter=partly_absent.output / "adapter")
    assert content["config"]["training_media"] == 1
    assert content["baselines"]["majority_answer"] == 0
    for name in ("metrics", "baselines", "config"):
        assert again[name] == content[name]


def test_scoring_where_no_training_picture_is(partly_absent: Recipe) -> None:
    """They lie on another machine: their absence tells nothing of what was trained on."""
    path = partly_absent.data.annotations / "train.jsonl"  # type: ignore[operator]
    path.write_text(path.read_text().replace("train-0", "gone-2"))
    content = evaluate(partly_absent)
    assert content["config"]["training_media"] == 3
    assert content["baselines"]["majority_answer"] == 100
    with pytest.raises(UserError, match=r"3 of 5 listed media are absent, the first is .*gone-0"):
        train(partly_absent)
