"""One run of a comparison: a subprocess of ours in a folder named by what it computes.

What is kept of a finished run is its `trial.json`: small, without paths, and enough for tables and
pictures. A comparison that was interrupted, one on another machine that was given these files, or
another one with runs in common takes them as they are. A run that is still going, left behind by a
killed comparison, holds its folder and is waited for.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from aurora_vl.comparison.fingerprints import Told, completed, name_of, short_digest, tell
from aurora_vl.comparison.per_item_scores import items_of, media_of, queries_of
from aurora_vl.comparison.records import Curve, TrialRecord, read_trial, write_trial
from aurora_vl.errors import UserError
from aurora_vl.recipes.recipe import Recipe, save_recipe
from aurora_vl.training.outputs import read_metrics
from aurora_vl.training.tasks import kind_of
from aurora_vl.utils.claims import claimed

log = logging.getLogger(__name__)

_LAST_WORDS = 4000  # characters of a failed run's log that are searched for its reason
_KEPT = "trial.json"


@dataclass(frozen=True)
class Trial:
    """A run to be done.

    Attributes:
        name: for people.
        recipe: resolved; its output is `folder / "run"`.
        told: what it computes, without places.
        folder: the run, its recipe, its log, and what is kept of it.
    """

    name: str
    recipe: Recipe
    told: Told
    folder: Path

    @property
    def run(self) -> Path:
        """The run's own folder; of a finished run it may be absent."""
        return self.folder / "run"

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.folder / _KEPT).is_file()

    @property
    def chooses(self) -> bool:
        """Whether it is there to choose a learning rate."""
        return self.recipe.evaluation.split == "val"

    @cached_property
    def kept(self) -> TrialRecord:
        """What is kept of it when it is finished."""
        return read_trial(self.folder / _KEPT)


class Runs:
    """The folder of a comparison's runs: finds what is finished by what it computes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _finished(self) -> dict[str, Path]:
        """Folders of finished runs, those of earlier versions too, by today's names."""
        found = {}
        for file in sorted(self.folder.glob(f"*/{_KEPT}")):
            told = completed(read_trial(file).told)
            if told is not None:
                found[name_of(told)] = file.parent
        return found

    def trial(self, name: str, recipe: Recipe) -> Trial:
        """The run of a resolved recipe.

        Raises:
            UserError: its data, or what is kept of a finished run, cannot be read.
        """
        told = tell(recipe)
        key = name_of(told)
        folder = self._finished.get(key, self.folder / key)
        training = recipe.training.model_copy(update={"output": folder / "run"})
        return Trial(name, recipe.model_copy(update={"training": training}), told, folder)


class TrialRunner:
    """Runs trials, some side by side, and says how far it is.

    Args:
        parallel: processes at a time; several have one thread each.
        planned: methods of all the runs of the comparison, finished ones included.
    """

    def __init__(self, parallel: int, planned: Iterable[str]) -> None:
        self.parallel = parallel
        self.failures: dict[str, str] = {}
        self._left = Counter(planned)
        self._total = self._left.total()
        self._spent: dict[str, list[float]] = {}
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def take(self, trials: Iterable[Trial]) -> list[Trial]:
        """Count what is finished as done; the others, to be run."""
        waiting = []
        for trial in trials:
            if trial.finished:
                self._count(trial)
            else:
                waiting.append(trial)
        return waiting

    def run(self, trials: Sequence[Trial], *, alone: bool = False) -> None:
        """Do what `take` left; the failures are kept in `failures`, name to reason.

        Args:
            trials: to be run.
            alone: one after the other, so that their clocks can be compared.
        """
        together = 1 if alone else self.parallel
        pool = ThreadPoolExecutor(together)
        try:
            jobs: list[Future[None]] = [pool.submit(self._one, trial, together) for trial in trials]
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            with self._lock:
                for child in self._children:
                    child.terminate()
            raise
        pool.shutdown()

    def rest(self) -> str:
        """How many runs are left and, once some are finished, how long they take."""
        everything = [seconds for spent in self._spent.values() for seconds in spent]
        count = self._left.total()
        if not everything or not count:
            return f"{count} left"
        seconds = sum(
            number * mean(self._spent.get(method, everything))
            for method, number in self._left.items()
        )
        return f"{count} left, about {max(1, round(seconds / self.parallel / 60))} min"

    def _count(self, trial: Trial) -> None:
        method = trial.recipe.adapter.method
        self._left[method] -= 1
        if trial.finished and not trial.kept.interrupted:
            self._spent.setdefault(method, []).append(trial.kept.seconds)

    def _one(self, trial: Trial, together: int) -> None:
        with _alone(trial):
            reason = None if trial.finished else self._start(trial, together)
        with self._lock:
            self._count(trial)
            if reason is not None:
                self.failures[trial.name] = reason
                log.warning("%s failed: %s (%s)", trial.name, reason, trial.folder / "log.txt")
            done = self._total - self._left.total()
            log.info("%d of %d runs done: %s; %s", done, self._total, trial.name, self.rest())

    def _start(self, trial: Trial, together: int) -> str | None:
        """Run it to the end; why it failed, or None."""
        begun = trial.run.exists()
        save_recipe(trial.recipe, trial.folder / "recipe.yaml")
        words = ["train", "--resume"]
        if trial.recipe.adapter.method == "none":
            words = ["evaluate", "--out", str(trial.run)]
        command, *options = words
        source = str(trial.folder / "recipe.yaml")
        environment = dict(os.environ)
        if together > 1:
            environment["OMP_NUM_THREADS"] = "1"
        started = time.perf_counter()
        with open(trial.folder / "log.txt", "wb") as words_of_it:
            child = subprocess.Popen(
                [sys.executable, "-m", "aurora_vl", command, source, *options, "-q"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words_of_it,
                env=environment,
            )
            with self._lock:
                self._children.add(child)
            memory = _wait(child)
            with self._lock:
                self._children.discard(child)
        if child.returncode != 0 or not (trial.run / "metrics.json").is_file():
            return _reason(child.returncode, trial.folder / "log.txt")
        shutil.rmtree(trial.run / "checkpoints", ignore_errors=True)
        record = _record(
            trial,
            seconds=round(time.perf_counter() - started, 2),
            peak_memory=memory,
            interrupted=begun,
            beside=together - 1,
        )
        write_trial(trial.folder / _KEPT, record)
        if trial.chooses:
            shutil.rmtree(trial.run)  # its score is all that was wanted
        return None


def _record(trial: Trial, **how: Any) -> TrialRecord:
    """What is kept of a run; `how` is seconds, peak_memory, interrupted and beside."""
    found = read_metrics(trial.run / "metrics.json")
    predictions = None if trial.chooses else _read(trial.run / "predictions.json")
    return TrialRecord(
        name=trial.name,
        told=trial.told,
        metrics=found.metrics,
        baselines=found.baselines,
        versions=found.versions,
        scored_split=found.config["scored_split"],
        chosen_on_scored=found.config["chosen_on_scored"],
        training_media=found.config["training_media"],
        items=None if trial.chooses else items_of(predictions),
        media=None if trial.chooses else media_of(predictions),
        queries=None if trial.chooses else short_digest(queries_of(predictions)),
        curve=_curve(trial),
        adapter_bytes=_adapter_bytes(trial.run / "adapter"),
        machine=_machine(),
        **how,
    )


def _curve(trial: Trial) -> Curve:
    """The course of the validation; empty where nothing was trained."""
    history = trial.run / "history.json"
    key = f"eval_{kind_of(trial.recipe).primary}"
    entries = _read(history) if history.is_file() else []
    scores = {entry["step"]: entry[key] for entry in entries if key in entry}
    return Curve(step=list(scores), score=list(scores.values()))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(
            f"{path} is damaged; delete {path.parent}, and the run is done again."
        ) from None


def _adapter_bytes(folder: Path) -> int:
    """What is to be kept to use a run's result: the folder without its card."""
    if not folder.is_dir():
        return 0
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "README.md"]
    return sum(file.stat().st_size for file in files)


def _machine() -> str:
    """What a run's seconds depend on."""
    told = f"{platform.machine()}, {os.cpu_count()} cores"
    return f"{told}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else told


@contextmanager
def _alone(trial: Trial) -> Iterator[None]:
    """Hold a trial's folder; another comparison, or a run that a killed one left, is waited for."""
    way_out = "set comparison.runs to another folder"
    with claimed(trial.folder, way_out, wait=True):
        if trial.run.is_dir():
            with claimed(trial.run, way_out, wait=True):
                pass
        yield


def _wait(child: subprocess.Popen[bytes]) -> int | None:
    """Wait for a process; its peak memory in bytes where the system tells it."""
    if sys.platform == "win32":
        child.wait()
        return None
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def _reason(status: int, path: Path) -> str:
    """Why a run failed, in a sentence: its own last one."""
    if status < 0:
        return f"it was ended by signal {-status}; run the same command again to go on"
    lines = path.read_text(errors="replace")[-_LAST_WORDS:].splitlines()
    said = [line.removeprefix("aurora: ") for line in lines if line.startswith("aurora: ")]
    last = said[-1] if said else next((line for line in reversed(lines) if line.strip()), "")
    return last or f"it ended with status {status} and said nothing"
