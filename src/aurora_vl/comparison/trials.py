"""One run of a comparison: a subprocess of ours in a folder named by what it computes.

The name is a hash of the whole resolved recipe, so a comparison that was interrupted, or another
one with runs in common, takes what is finished as it is. A run that is still going, left behind by
a killed comparison, holds a lock and is waited for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aurora_vl._version import __version__
from aurora_vl.training.recipe import Recipe, save_recipe, write_text
from aurora_vl.training.sections import ComparisonSection

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

_LAST_WORDS = 4000  # characters of a failed run's log that are searched for its reason


@dataclass(frozen=True)
class Trial:
    """A run to be done.

    Attributes:
        name: for people.
        recipe: resolved; its output is `folder / "run"`.
        folder: the run, its recipe, its log, and how it went.
    """

    name: str
    recipe: Recipe
    folder: Path

    @property
    def run(self) -> Path:
        """The run's own folder."""
        return self.folder / "run"

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.run / "metrics.json").is_file() and (self.folder / "trial.json").is_file()

    def read(self, name: str) -> Any:
        """A JSON file of the run."""
        return json.loads((self.run / name).read_text())

    @property
    def story(self) -> dict[str, Any]:
        """How it went: `seconds`, `peak_memory` in bytes, `interrupted`, `beside`."""
        content: dict[str, Any] = json.loads((self.folder / "trial.json").read_text())
        return content


def make_trial(name: str, recipe: Recipe, runs: Path) -> Trial:
    """The run of a recipe, in a folder of `runs` that its configuration names."""
    recipe = recipe.model_copy(update={"comparison": ComparisonSection()})
    told = recipe.model_dump(mode="json")
    del told["training"]["output"]
    if recipe.data.kind == "world":
        del told["data"]["annotations"]  # the world's settings tell it
    text = json.dumps([__version__, told], sort_keys=True)
    folder = runs / hashlib.sha256(text.encode()).hexdigest()[:12]
    training = recipe.training.model_copy(update={"output": folder / "run"})
    return Trial(name, recipe.model_copy(update={"training": training}), folder)


class TrialRunner:
    """Runs trials, some side by side, and says how far it is.

    Args:
        parallel: processes at a time; several have one thread each.
        total: how many runs the whole comparison has, finished ones included.
    """

    def __init__(self, parallel: int, total: int) -> None:
        self.parallel = parallel
        self.total = total
        self.failures: dict[str, str] = {}
        self._done = 0
        self._spent: list[float] = []
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def run(self, trials: Sequence[Trial]) -> list[Trial]:
        """Do what is not finished; those that are finished afterwards.

        The failures of the others are kept in `failures`, name to reason.
        """
        pool = ThreadPoolExecutor(self.parallel)
        try:
            jobs: list[Future[None]] = [pool.submit(self._one, trial) for trial in trials]
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            with self._lock:
                for child in self._children:
                    child.terminate()
            raise
        pool.shutdown()
        return [trial for trial in trials if trial.finished]

    def _one(self, trial: Trial) -> None:
        with _alone(trial) as lock:
            reason = None
            if not trial.finished:
                started = time.perf_counter()
                reason = self._start(trial, lock)
                if reason is None:
                    self._spent.append(time.perf_counter() - started)
        with self._lock:
            self._done += 1
            if reason is not None:
                self.failures[trial.name] = reason
                log.warning("%s failed: %s (%s)", trial.name, reason, trial.folder / "log.txt")
            log.info("%d of %d runs done: %s%s", self._done, self.total, trial.name, self._rest())

    def _rest(self) -> str:
        """How long the rest takes, by the runs so far."""
        left = self.total - self._done
        if not self._spent or not left:
            return ""
        seconds = left * sum(self._spent) / len(self._spent) / self.parallel
        return f"; the other {left} take about {max(1, round(seconds / 60))} min"

    def _start(self, trial: Trial, lock: int | None) -> str | None:
        """Run it to the end; why it failed, or None."""
        begun = trial.run.exists()
        save_recipe(trial.recipe, trial.folder / "recipe.yaml")
        words = ["train", "--resume"]
        if trial.recipe.adapter.method == "none":
            words = ["evaluate", "--out", str(trial.run)]
        command, *options = words
        source = str(trial.folder / "recipe.yaml")
        environment = dict(os.environ)
        if self.parallel > 1:
            environment["OMP_NUM_THREADS"] = "1"
        started = time.perf_counter()
        with open(trial.folder / "log.txt", "wb") as words_of_it:
            child = subprocess.Popen(
                [sys.executable, "-m", "aurora_vl", command, source, *options, "-q"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words_of_it,
                env=environment,
                pass_fds=() if lock is None else (lock,),
            )
            with self._lock:
                self._children.add(child)
            memory = _wait(child)
            with self._lock:
                self._children.discard(child)
        if child.returncode != 0 or not (trial.run / "metrics.json").is_file():
            return _reason(child.returncode, trial.folder / "log.txt")
        shutil.rmtree(trial.run / "checkpoints", ignore_errors=True)
        story = {
            "name": trial.name,
            "seconds": round(time.perf_counter() - started, 2),
            "peak_memory": memory,
            "interrupted": begun,
            "beside": self.parallel - 1,
        }
        write_text(trial.folder / "trial.json", json.dumps(story, indent=1) + "\n")
        return None


@contextmanager
def _alone(trial: Trial) -> Iterator[int | None]:
    """Hold a trial's lock; a run of it that still goes on holds it, too, and is waited for."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield None
        return
    with open(trial.folder / "lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s is still being run by another process; waiting for it", trial.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


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
