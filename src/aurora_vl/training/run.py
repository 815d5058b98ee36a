"""A run from recipe to metrics: train, or evaluate what was trained.

A run's folder holds recipe.yaml, checkpoints/, logs/, adapter/ and metrics.json. Every file is
written whole or not at all, so a killed run resumes and a finished one is never half there.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PrinterCallback, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback, is_tensorboard_available

from aurora_vl.backbones.gradient_checkpointing import recompute_layers
from aurora_vl.data.media import require_media
from aurora_vl.data.records import Splits
from aurora_vl.errors import UserError
from aurora_vl.inference.loading import TunedModel
from aurora_vl.inference.settings import TrainedOn, place_digest, read_settings
from aurora_vl.methods.parameter_count import count_parameters, count_saved
from aurora_vl.recipes.recipe import Recipe, save_recipe
from aurora_vl.training.building import (
    build_augment,
    build_model,
    in_use,
    load_trained,
    own_rates,
    training_preprocessor,
)
from aurora_vl.training.half_precision import warn_if_bfloat16_is_slow
from aurora_vl.training.model_card import TrainingFacts, write_card
from aurora_vl.training.outputs import (
    RunMetrics,
    run_metrics,
    write_adapter,
    write_json,
    write_results,
)
from aurora_vl.training.recipe_data import (
    read_data,
    read_trained_on,
    require_decodable,
    shortened,
)
from aurora_vl.training.resume import begun
from aurora_vl.training.tasks import Outcome, kind_of
from aurora_vl.training.text_limits import warn_of_cut_texts
from aurora_vl.training.trainer import AuroraTrainer, StepProgress
from aurora_vl.utils.atomic import remove_unfinished
from aurora_vl.utils.claims import claimed
from aurora_vl.utils.disks import explained_disk_faults
from aurora_vl.utils.distributed import own_device, rank
from aurora_vl.utils.processes import is_main_process, launched_processes
from aurora_vl.utils.progress import progress_bar

log = logging.getLogger(__name__)


def train(recipe: Recipe, *, resume: bool = False) -> dict[str, Any]:
    """Tune by a recipe, score the test split and write the run's folder.

    Args:
        recipe: resolved, `adapter.method` other than none.
        resume: go on from the newest checkpoint; start if there is none; change nothing if the
            run is finished.

    Returns:
        The contents of metrics.json.

    Raises:
        UserError: the folder holds a run and `resume` is off, or the run was begun with another
            recipe or number of processes, or data or settings do not fit.
    """
    if recipe.adapter.method == "none":
        raise UserError("adapter.method none trains nothing; use `aurora evaluate` for zero-shot.")
    out = recipe.output
    with claimed(out, "set training.output to another folder"):
        before = begun(recipe, resume=resume)
        if before.metrics is not None:
            return before.metrics.contents()
        with explained_disk_faults(out, "mend this, and the same command with --resume goes on"):
            return _tune(recipe, before.checkpoint).contents()


def _tune(recipe: Recipe, checkpoint: Path | None) -> RunMetrics:
    """Train from a checkpoint or the beginning, keep the adapter, score it."""
    start, out = time.perf_counter(), recipe.output
    if is_main_process():
        remove_unfinished(out)
        remove_unfinished(out / "checkpoints")
    splits = read_data(recipe)
    if is_main_process():
        require_decodable(recipe, splits)
    set_seed(recipe.training.seed)
    model = build_model(recipe)
    recompute_layers(model, recipe.training.recompute)
    tuned = in_use(recipe, model, kind_of(recipe).settings(recipe, splits))
    trainer = _trainer(recipe, tuned, splits, start)
    if rank() == 0:
        save_recipe(recipe, out / "recipe.yaml")
    with progress_bar("tuning") as advance:
        trainer.add_callback(StepProgress(advance))
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    skipped = _skipped(trainer)
    if rank() == 0:
        write_adapter(tuned, out / "adapter")
        write_json(out / "history.json", trainer.state.log_history)
    try:
        outcome = _score(recipe, tuned, splits)
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')}; {_way_to_score(recipe)}.") from error
    count = count_parameters(model)
    metrics = run_metrics(recipe, count, outcome, splits, trainer.seconds())
    if recipe.data.on_error == "skip":
        metrics = metrics.model_copy(update={"skipped_media": skipped})
    if rank() == 0:
        if isinstance(model, PeftModel):
            content = metrics.contents()
            write_card(out / "adapter", recipe, kind_of(recipe).model, content, _facts(trainer))
        write_results(out, metrics, outcome)
    return metrics


def _way_to_score(recipe: Recipe) -> str:
    """How a run is finished whose adapter is there and could not be scored."""
    adapter = recipe.output / "adapter"
    if recipe.training.checkpoints:
        return f"the adapter is in {adapter}, and the same command with --resume scores it"
    return f"the adapter is in {adapter}, and aurora evaluate with --adapter {adapter} scores it"


def evaluate(
    recipe: Recipe, *, adapter: Path | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Score the recipe's test split, zero-shot without an adapter.

    Returns:
        The contents of metrics.json, which is written to `out` with the predictions.

    Raises:
        UserError: `out` is a run's folder or cannot be written to, or data, adapter or settings do
            not fit, or the adapter was trained on media that would be scored.
    """
    folder = out or recipe.output / f"evaluation-{_evaluation_name(adapter)}"
    if (folder / "recipe.yaml").is_file():
        raise UserError(
            f"{folder} is a run's folder and keeps its metrics.json; give another --out."
        )
    way_out = "give another --out"
    with claimed(folder, way_out), explained_disk_faults(folder, way_out):
        return _scored(recipe, adapter, folder).contents()


def _scored(recipe: Recipe, adapter: Path | None, folder: Path) -> RunMetrics:
    """Score an adapter, or the backbone as it is, into a folder."""
    start = time.perf_counter()
    splits = read_trained_on(recipe)
    if adapter is not None:
        _require_unseen(adapter, recipe, splits)
    require_media(replace(splits, train=[], val=[]))  # the other splits' files need not be there
    settings = kind_of(recipe).settings(recipe, splits)
    tuned = load_trained(recipe, adapter, settings, own_device())
    count = count_saved(adapter, tuned.model)
    outcome = _score(recipe, tuned, splits)
    metrics = run_metrics(recipe, count, outcome, splits, time.perf_counter() - start)
    if rank() == 0:
        write_results(folder, metrics, outcome)
    return metrics


def _require_unseen(adapter: Path, recipe: Recipe, splits: Splits[Any]) -> None:
    """Refuse validation data that the adapter was trained on, or on most of them.

    Those that another seed draws, and the benchmark's own where they were trained on, too.
    """
    trained, drawn_by = read_settings(adapter).trained_on, splits.val_seed
    if splits.scored != "val":
        return
    if trained.questions not in (None, recipe.data.train_on) and _same_data(recipe, trained):
        raise UserError(
            f"{adapter} was trained with data.train_on={trained.questions}, so on questions that "
            f"data.train_on={recipe.data.train_on} has scored; score an adapter that was trained "
            f"with data.train_on={recipe.data.train_on}."
        )
    drawn = recipe.evaluation.split == "val" and drawn_by is not None
    if drawn and trained.seed not in (None, drawn_by):
        raise UserError(
            f"{adapter} was trained with training.seed {trained.seed}, which drew other validation "
            f"media than {drawn_by} does; give training.seed={trained.seed}."
        )


def _same_data(recipe: Recipe, trained: TrainedOn) -> bool:
    """Whether a recipe is about what was trained on: a benchmark is the same wherever it lies."""
    if trained.kind != recipe.data.kind:
        return False
    here = place_digest(recipe.data.annotations)
    return trained.kind not in ("jsonl", "world") or trained.annotations == here


def _trainer(
    recipe: Recipe, tuned: TunedModel, splits: Splits[Any], started: float
) -> AuroraTrainer:
    settings, task = recipe.training, kind_of(recipe)
    if settings.precision == "bfloat16" and not torch.cuda.is_available():
        warn_if_bfloat16_is_slow()
    preprocessor = training_preprocessor(recipe, tuned)
    if is_main_process():
        warn_of_cut_texts(recipe, splits.train, preprocessor.cut)
    train_set: Any = task.train_set(recipe, splits.train, preprocessor)
    arguments = _arguments(recipe, len(train_set))
    steps = math.ceil(len(train_set) / (settings.batch_size * arguments.world_size))
    trainer = AuroraTrainer(
        model=task.module(recipe, tuned, len(train_set), steps),
        args=arguments,
        train_dataset=train_set,
        eval_dataset=splits.val,  # Trainer asks for one; `validate` has its own
        data_collator=task.collator(preprocessor),
        preprocessor=preprocessor,
        augment=build_augment(recipe, preprocessor),
        started=started,
        own_rates=own_rates(recipe, tuned.model),
        validate=_validation(recipe, tuned, splits),
        primary=task.primary,
    )
    trainer.remove_callback(PrinterCallback)
    if is_tensorboard_available():
        board = TensorBoardCallback()
        board.logging_dir = str(recipe.output / "logs")
        trainer.add_callback(board)
    else:
        log.info("training curves for TensorBoard need tensorboard: install aurora-vl[train]")
    return trainer


def _validation(
    recipe: Recipe, tuned: TunedModel, splits: Splits[Any]
) -> Callable[[], dict[str, float]]:
    def validate() -> dict[str, float]:
        task = kind_of(recipe)
        return task.score(recipe, tuned, splits, splits.val, final=False).metrics

    return validate


def _arguments(recipe: Recipe, items: int) -> TrainingArguments:
    settings = recipe.training
    out = recipe.output
    processes = launched_processes()
    steps = math.ceil(items / (settings.batch_size * processes)) * settings.epochs
    interval = max(1, math.ceil(steps / settings.validations))
    strategy = "steps" if settings.checkpoints else "no"
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate or 0.0,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_gradient_norm or 0.0,  # 0: left as they are
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type="cosine",
        seed=settings.seed,
        bf16=settings.precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        # Naming a backend makes accelerate expect a process group.
        ddp_backend="gloo" if processes > 1 and not torch.cuda.is_available() else None,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        dataloader_num_workers=recipe.data.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        eval_strategy=strategy,
        eval_steps=interval,
        save_strategy=strategy,
        save_steps=interval,
        save_total_limit=2,
        load_best_model_at_end=settings.checkpoints,
        metric_for_best_model=kind_of(recipe).primary,
        logging_steps=max(1, steps // 100),
        logging_nan_inf_filter=False,  # it would hide a diverging loss from the log's check
        report_to=[],
        disable_tqdm=True,  # it and the printing in its place go to standard output
    )
    # Several devices without torchrun: DataParallel's copies would lose queue and averages.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _score(recipe: Recipe, tuned: TunedModel, splits: Splits[Any]) -> Outcome:
    """Score the split that is to be scored, under a progress bar."""
    with progress_bar("scoring") as advance:
        return kind_of(recipe).score(
            recipe, tuned, splits, splits.test, final=True, progress=advance
        )


def _skipped(trainer: AuroraTrainer) -> list[str]:
    """Paths of the damaged training media that any process skipped; they are logged."""
    train_set = trainer.train_dataset
    train_set.skipped_items |= trainer.skipped_items()
    skipped: list[str] = train_set.skipped()
    if skipped:
        told = f"{len(skipped)} damaged training media were skipped: {', '.join(skipped)}"
        log.warning(shortened(told, skipped))
    return skipped


def _facts(trainer: AuroraTrainer) -> TrainingFacts:
    state, arguments = trainer.state, trainer.args
    kept = state.best_global_step if arguments.load_best_model_at_end else None
    return TrainingFacts(state.global_step, kept, len(trainer.train_dataset), arguments.world_size)


def _evaluation_name(adapter: Path | None) -> str:
    return "zero-shot" if adapter is None else adapter.resolve().name
