"""transformers' Trainer with Aurora's batches, checkpoints and best model.

Beside a task's state (`checkpoints`) a checkpoint holds which items were skipped and how long the
run took so far.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import rotate_checkpoints

from aurora_vl.backbones.base import Preprocessor
from aurora_vl.data.augment import Augment
from aurora_vl.errors import UserError
from aurora_vl.training.checkpoints import (
    STATE_FILE,
    checkpoint_folder,
    damaged_file,
    load_task_state,
    task_state,
)
from aurora_vl.utils.distributed import barrier, gather, rank, world_size

log = logging.getLogger(__name__)
_SKIPPED_FILE = "skipped_items.json"
_SECONDS_FILE = "seconds.json"


class AuroraTrainer(Trainer):
    """Trainer of a task's module, such as `RetrievalTask`.

    Args:
        validate: called with nothing, gives the validation metrics.
        primary: the name of the one that chooses the best checkpoint.
        preprocessor: brings training batches to the model.
        augment: applied to training batches; None for none.
        started: when the run's work began in this process, by `time.perf_counter`.
        own_rates: parameters with a learning rate of their own, and theirs.
        kwargs: as for `transformers.Trainer`.
    """

    control: TrainerControl

    def __init__(
        self,
        *,
        validate: Callable[[], dict[str, float]],
        primary: str,
        preprocessor: Preprocessor,
        augment: Augment | None,
        started: float,
        own_rates: Sequence[tuple[Sequence[nn.Parameter], float]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.own_rates = own_rates
        self.validate = validate
        self.primary = primary
        self.preprocessor = preprocessor
        self.augment = augment
        self._started = started
        self._seconds_before = 0.0
        self._parts: dict[str, Tensor] = {}
        self._parts_count = 0
        self.add_callback(_LastStep())
        self.add_callback(_DataEpoch())
        self.add_callback(_BestIsThere())

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Trainer's optimizer, with groups for parameters that have rates of their own."""
        optimizer = super().create_optimizer(model)
        for parameters, rate in self.own_rates:
            own = {id(parameter) for parameter in parameters}
            for group in list(optimizer.param_groups):
                apart = [p for p in group["params"] if id(p) in own]
                if apart:
                    group["params"] = [p for p in group["params"] if id(p) not in own]
                    optimizer.add_param_group({**group, "params": apart, "lr": rate})
        return optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The batch's loss; its parts are kept for the log."""
        inputs = dict(inputs)
        seeds = inputs.pop("augment_seed")
        dtype = next(model.parameters()).dtype
        media = self.preprocessor.finish(
            inputs.pop("media"), seeds.device, dtype, self.augment, seeds
        )
        losses = model(media=media, **inputs, **self._filled(len(seeds)))
        for name, value in losses.items():
            if name != "loss":
                value = value.detach()  # stays on the device: no waiting for it at every step
                self._parts[name] = self._parts.get(name, torch.zeros_like(value)) + value
        self._parts_count += 1
        return (losses["loss"], losses) if return_outputs else losses["loss"]

    def _filled(self, batch: int) -> dict[str, int]:
        """How many media of the own batch count, if this step's batches were filled up.

        Processes need batches of one size, so accelerate fills an epoch's last ones up with its
        first items. Items are dealt out in the processes' order.
        """
        dataset: Any = self.train_dataset
        together = self.args.per_device_train_batch_size * world_size()
        steps, rest = divmod(len(dataset), together)
        last = (self.state.global_step + 1) % (steps + 1) == 0
        if world_size() == 1 or rest == 0 or not last:
            return {}
        return {"counted_media": min(max(rest - rank() * batch, 0), batch)}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean of each part of the loss since the last time and over processes."""
        if "loss" in logs and self._parts_count:
            if not math.isfinite(logs["loss"]):
                raise UserError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}; "
                    "set a lower training.learning_rate and a new folder as training.output."
                )
            for name, total in self._parts.items():
                logs[name] = round(gather(total[None]).mean().item() / self._parts_count, 4)
            self._parts, self._parts_count = {}, 0
        super().log(logs, start_time)

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Validation metrics under `eval_` names, as Trainer's callbacks expect them."""
        found = self.validate()
        log.info(
            "step %d of %d: validation %s %.1f",
            self.state.global_step,
            self.state.max_steps,
            self.primary,
            found[self.primary],
        )
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint beside its final name and rename it when it is whole."""
        folder = Path(self.args.output_dir)
        skipped = self.skipped_items().nonzero()[:, 0].tolist()
        with checkpoint_folder(folder / f"checkpoint-{self.state.global_step}") as staging:
            self._save_optimizer_and_scheduler(str(staging))
            self._save_rng_state(str(staging))
            if self.state.best_global_step:
                best = folder / f"checkpoint-{self.state.best_global_step}"
                self.state.best_model_checkpoint = str(best)
            if self.args.should_save:
                save_file(
                    {name: value.contiguous() for name, value in task_state(self.model).items()},
                    staging / STATE_FILE,
                )
                (staging / _SKIPPED_FILE).write_text(json.dumps(skipped))
                (staging / _SECONDS_FILE).write_text(json.dumps(self.seconds()))
                for callback in [*self.callback_handler.callbacks, self.control]:
                    if isinstance(callback, ExportableState):
                        self.state.stateful_callbacks[type(callback).__name__] = callback.state()
                self.state.save_to_json(str(staging / TRAINER_STATE_NAME))
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=str(folder),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )
        barrier()

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        checkpoint = Path(resume_from_checkpoint)
        load_task_state(self.model, checkpoint)
        dataset: Any = self.train_dataset
        dataset.skipped_items[json.loads((checkpoint / _SKIPPED_FILE).read_text())] = True
        self._seconds_before = json.loads((checkpoint / _SECONDS_FILE).read_text())

    def seconds(self) -> float:
        """How long the run took so far, up to the checkpoint in the processes before this one."""
        return self._seconds_before + time.perf_counter() - self._started

    def skipped_items(self) -> Tensor:
        """Which training items any process has skipped, bool (items,)."""
        dataset: Any = self.train_dataset
        return gather(dataset.skipped_items[None].to(self.args.device)).any(0).cpu()

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            load_task_state(self.model, Path(self.state.best_model_checkpoint))


class StepProgress(TrainerCallback):
    """Tells somebody the number of steps done and of all steps."""

    def __init__(self, advance: Callable[[int, int], None]) -> None:
        self._advance = advance

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Report after each step."""
        self._advance(state.global_step, state.max_steps)


class _DataEpoch(TrainerCallback):
    """Tells the training data its epoch; accelerate tells only the sampler when it has one."""

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        # A resumed epoch begins at a fraction; a finished one may miss its integer by rounding.
        train_dataloader.dataset.set_epoch(math.floor((state.epoch or 0.0) + 1e-6))


class _BestIsThere(TrainerCallback):
    """Looks for the best checkpoint when a run is gone on with; the folder may have moved."""

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if not state.best_global_step:
            return
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        damaged = damaged_file(best)
        state.best_model_checkpoint = str(best)
        if damaged is not None:
            log.warning("%s, of the best checkpoint so far, is damaged; it is left out", damaged)
            state.best_global_step = state.best_model_checkpoint = state.best_metric = None


class _LastStep(TrainerCallback):
    """Validates and saves at the last step too, wherever it falls."""

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> TrainerControl:
        if state.global_step >= state.max_steps and args.save_strategy != "no":
            control.should_evaluate = True
            control.should_save = True
            control.should_log = True
        return control
