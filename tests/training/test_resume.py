"""Checkpoints: whole or absent, exact, and a resumed run equals one that was never interrupted."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from in_use import by_part
from safetensors.torch import load_file, save_file
from tiny_blip import batch, tiny_model
from torch import nn

from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.errors import UserError
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training import run, trainer
from aurora_vl.training.checkpoints import (
    STATE_FILE,
    checkpoint_folder,
    load_task_state,
    newest_checkpoint,
    task_state,
)
from aurora_vl.training.run import train
from aurora_vl.training.trainer import AuroraTrainer

MakeRecipe = Callable[..., Recipe]


class Killed(Exception):
    """Stands for the end of the process."""


def killed_at(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, step: int) -> None:
    """Run a recipe until a training step begins."""
    calls = []
    forward = RetrievalTask.forward

    def die(task: RetrievalTask, **given: Any) -> Any:
        calls.append(1)
        if len(calls) == step:
            raise Killed
        return forward(task, **given)

    with monkeypatch.context() as patch:
        patch.setattr(RetrievalTask, "forward", die)
        with pytest.raises(Killed):
            train(recipe, resume=True)


def final(recipe: Recipe) -> dict[str, Any]:
    """What a run came to, its times aside."""
    out = recipe.output
    metrics = json.loads((out / "metrics.json").read_text())
    name = "adapter_model" if recipe.adapter.method == "aurora" else "model"
    history = json.loads((out / "history.json").read_text())
    return {
        "metrics": metrics["metrics"],
        "adapter": load_file(out / "adapter" / f"{name}.safetensors"),
        "state": load_file(out / "checkpoints" / "checkpoint-12" / STATE_FILE),
        "predictions": (out / "predictions.json").read_text(),
        "history": [
            {key: value for key, value in entry.items() if key != "grad_norm"}
            for entry in history
            if "train_runtime" not in entry
        ],
    }


def same(one: dict[str, Any], two: dict[str, Any]) -> None:
    for kind in ("adapter", "state"):
        assert one[kind].keys() == two[kind].keys()
        for name, value in one[kind].items():
            assert torch.equal(value, two[kind][name]), name
    for kind in ("metrics", "predictions", "history"):
        assert one[kind] == two[kind]


@pytest.mark.parametrize("method", ["aurora", "full"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Bit for bit, with dropout, crops and augmentation; killed twice, in mid-epoch."""
    settings = (f"adapter.method={method}", "data.augmentation=full", "objective.queue=9")
    whole = make_recipe(*settings, output="whole")
    train(whole)
    broken = make_recipe(*settings, output="broken")
    killed_at(monkeypatch, broken, 6)  # in the second epoch, two steps after a checkpoint
    newest = newest_checkpoint(broken.output / "checkpoints")
    assert newest is not None
    assert newest.name == "checkpoint-3"  # in the first epoch
    killed_at(monkeypatch, broken, 5)  # the eighth step
    train(broken, resume=True)
    same(final(whole), final(broken))


def test_the_seconds_before_an_interruption_count(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those up to the checkpoint that the run goes on from."""
    clock = itertools.count(0, 1000)
    recipe = make_recipe()
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: float(next(clock)))
        killed_at(monkeypatch, recipe, 5)
    kept = json.loads((recipe.output / "checkpoints/checkpoint-3/seconds.json").read_text())
    assert kept >= 1000
    assert kept < train(recipe, resume=True)["seconds"] < kept + 500


def test_killed_after_the_last_step(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only scoring and writing are left; the best state is found again."""
    whole, broken = make_recipe(output="whole"), make_recipe(output="broken")
    train(whole)

    def die(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_results", die)
        with pytest.raises(Killed):
            train(broken)
    assert not (broken.output / "metrics.json").exists()
    train(broken, resume=True)
    same(final(whole), final(broken))


def test_what_was_skipped_before_an_interruption_is_still_told(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path
) -> None:
    """Killed in the last step of the only epoch, after which the damaged files are not met."""
    spoilt = tmp_path / "spoilt"
    shutil.copytree(data, spoilt)
    for name in ("train-0.jpg", "train-3.jpg", "train-6.jpg"):
        (spoilt / name).write_bytes(b"nothing")
    places = (f"data.annotations={spoilt}", f"data.media={spoilt}", "data.on_error=skip")
    whole = make_recipe("training.epochs=1", *places, output="whole")
    broken = make_recipe("training.epochs=1", *places, output="broken")
    listed = train(whole)["skipped_media"]
    assert listed == [str(spoilt / f"train-{number}.jpg") for number in (0, 3, 6)]
    killed_at(monkeypatch, broken, 4)
    assert train(broken, resume=True)["skipped_media"] == listed


def test_another_number_of_processes_is_refused(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would count epochs by the new number's steps and end training early."""
    recipe = make_recipe()
    killed_at(monkeypatch, recipe, 5)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        with pytest.raises(UserError) as caught:
            train(recipe, resume=True)
    assert str(caught.value) == (
        f"{recipe.output} was begun with 1 process and this is a run of 2; start as many as then, "
        "or set training.output to a new folder."
    )
    content = train(recipe, resume=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train(recipe, resume=True) == content  # it is finished: nothing to go on with


def test_resume_without_a_run_begins_one(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("training.epochs=1")
    assert train(recipe, resume=True)["metrics"]


@pytest.mark.parametrize("where", ["save_file", "_save_rng_state", "save_to_json"])
def test_a_failing_save_leaves_no_checkpoint(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    whole, broken = make_recipe(output="whole"), make_recipe(output="broken")
    train(whole)
    owner = {"save_file": trainer, "_save_rng_state": AuroraTrainer}.get(
        where, trainer.TrainerState
    )
    original = getattr(owner, where)
    calls = []

    def fail(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, where, fail)
        with pytest.raises(UserError) as caught:
            train(broken)
    assert str(caught.value) == (
        f"{broken.output} cannot be written to (the disk is full: No space left on device); "
        "mend this, and the same command with --resume goes on."
    )
    checkpoints = broken.output / "checkpoints"
    assert [p.name for p in checkpoints.glob("checkpoint-*")] == ["checkpoint-3"]
    train(broken, resume=True)
    same(final(whole), final(broken))


def test_the_last_step_is_logged_validated_and_saved(make_recipe: MakeRecipe) -> None:
    """Whatever the intervals; but without checkpoints nothing is validated."""
    for keep, asked in (("true", True), ("false", False)):
        recipe = make_recipe(f"training.checkpoints={keep}")
        arguments = run._arguments(recipe, 13)
        for step in (11, 12):
            state = trainer.TrainerState(global_step=step, max_steps=12)
            control = trainer._LastStep().on_step_end(arguments, state, trainer.TrainerControl())
            found = (control.should_log, control.should_evaluate, control.should_save)
            assert found == (asked and step == 12,) * 3


def test_the_newest_complete_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_checkpoint(tmp_path / "nothing") is None
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-8-copy", "checkpoint-x"):
        with checkpoint_folder(tmp_path / name) as folder:
            (folder / "trainer_state.json").touch()
    (tmp_path / "checkpoint-11").mkdir()  # without its checksums
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert caplog.messages == [
        f"{tmp_path}/checkpoint-11/checksums.json is damaged; the checkpoint before it is taken"
    ]


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever of its files is cut, changed or absent."""
    recipe = make_recipe()
    killed_at(monkeypatch, recipe, 8)
    folder = recipe.output / "checkpoints"
    names = sorted(file.name for file in (folder / "checkpoint-6").iterdir())
    assert len(names) == 8
    for name in names:
        file = folder / "checkpoint-6" / name
        content = file.read_bytes()
        for fault in (content[: len(content) // 2], bytes([content[0] ^ 1]) + content[1:], None):
            file.unlink()
            if fault is not None:
                file.write_bytes(fault)
            caplog.clear()
            assert newest_checkpoint(folder) == folder / "checkpoint-3"
            assert caplog.messages == [f"{file} is damaged; the checkpoint before it is taken"]
            file.write_bytes(content)
        assert newest_checkpoint(folder) == folder / "checkpoint-6"
    for checkpoint in folder.iterdir():
        (checkpoint / "optimizer.pt").unlink()
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged; remove this folder"):
        train(recipe, resume=True)


@pytest.mark.parametrize("damaged", ["checkpoint-6", "checkpoint-3"])
def test_going_on_beside_a_damaged_checkpoint(
    make_recipe: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damaged: str,
) -> None:
    """The newest one costs its steps; the best one so far can no longer be the result."""
    whole, broken = make_recipe(output="whole"), make_recipe(output="broken")
    train(whole)
    killed_at(monkeypatch, broken, 8)
    folder = broken.output / "checkpoints"
    file = folder / damaged / STATE_FILE
    file.write_bytes(file.read_bytes()[:100])
    if damaged == "checkpoint-3":
        state = folder / "checkpoint-6" / "trainer_state.json"
        told = json.loads(state.read_text())
        told |= {"best_global_step": 3, "best_metric": 101.0}
        with checkpoint_folder(state.parent) as staging:
            shutil.copytree(state.parent, staging, dirs_exist_ok=True)
            (staging / "checksums.json").unlink()  # written anew
            (staging / state.name).write_text(json.dumps(told))
    train(broken, resume=True)
    assert any(message.startswith(f"{file}") for message in caplog.messages)
    if damaged == "checkpoint-6":
        same(final(whole), final(broken))
    else:
        history = json.loads((broken.output / "history.json").read_text())
        assert [e["step"] for e in history if "eval_r_mean" in e] == [3, 6, 9, 12]


def make_task(method: str = "full", **settings: Any) -> RetrievalTask:
    settings = {"queue": 5, "momentum": 0.9, **settings}
    return RetrievalTask(BlipDualEncoder(tiny_model(method)), RetrievalSettings(**settings)).train()


def save(task: RetrievalTask, folder: Path) -> None:
    state = {name: value.contiguous() for name, value in task_state(task).items()}
    save_file(state, folder / STATE_FILE)


@pytest.mark.parametrize("method", ["full", "aurora"])
@pytest.mark.parametrize("queue", [0, 5])
def test_the_state_is_kept_exactly(tmp_path: Path, method: str, queue: int) -> None:
    """Weights, averages, queue, pointer and steps; the next losses are the same bits."""
    task = make_task(method, queue=queue)
    for step in range(3):
        task(**by_part(batch([0, 1, 2], seed=step)))["loss"].backward()
        with torch.no_grad():
            for parameter in task.model.parameters():
                if parameter.requires_grad:
                    parameter -= 0.01 * parameter.grad
                    parameter.grad = None
    save(task, tmp_path)
    other = make_task(method, queue=queue)
    load_task_state(other, tmp_path)
    assert int(other.steps) == 3
    assert int(other.pointer) == (9 % queue if queue else 0)
    before, after = task.state_dict(), other.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    given = by_part(batch([3, 4], seed=7))
    assert torch.equal(task(**given)["loss"], other(**given)["loss"])


def test_only_what_changes_is_kept() -> None:
    """Frozen weights are not in a checkpoint."""
    task = make_task("aurora")
    frozen = {f"model.{n}" for n, p in task.model.named_parameters() if not p.requires_grad}
    kept = set(task_state(task))
    assert not kept & frozen
    counters = {"pointer", "steps", "momentum.updates"}
    assert {"image_queue", "text_queue", "index_queue"} | counters <= kept
    trained = {f"model.{n}" for n, p in task.model.named_parameters() if p.requires_grad}
    assert trained <= kept
    averages = {name for name in kept - counters if name.startswith("momentum.")}
    assert len(averages) == len(trained)


def test_a_parameter_stored_transposed_is_restored(tmp_path: Path) -> None:
    def transposed() -> RetrievalTask:
        model = tiny_model()
        weight = model.itm_head.weight
        model.itm_head.weight = nn.Parameter(weight.detach().T.contiguous().T)
        assert not model.itm_head.weight.is_contiguous()
        return RetrievalTask(BlipDualEncoder(model), RetrievalSettings(queue=2))

    task, other = transposed(), transposed()
    with torch.no_grad():
        task.model.get_submodule("itm_head").weight.mul_(2.0)  # type: ignore[operator]
    save(task, tmp_path)
    load_task_state(other, tmp_path)
    assert torch.equal(other.state_dict()["model.itm_head.weight"],
                       task.state_dict()["model.itm_head.weight"])  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "difference"),
    [({"queue": 6}, "image_queue"), ({"momentum": None}, r"momentum\.model|momentum\.")],
)
def test_the_state_of_other_settings_is_refused(
    tmp_path: Path, settings: dict[str, Any], difference: str
) -> None:
    save(make_task(), tmp_path)
    task = make_task(**settings)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    with pytest.raises(UserError, match=rf"other settings \(first difference: ({difference})"):
        load_task_state(task, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
