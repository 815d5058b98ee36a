"""The command as a process: streams, exit status, and a run that is killed."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from command_line import Outcome, OwnData, run_process, start_process, write_own_data
from tiny_blip import save_backbone


@pytest.fixture
def own_data(tmp_path: Path) -> OwnData:
    return write_own_data(tmp_path / "own", save_backbone(tmp_path / "tiny"))


def test_results_on_one_stream_and_the_log_on_the_other(own_data: OwnData) -> None:
    (own_data.folder / "val.jsonl").unlink()
    outcome = run_process("evaluate", own_data.recipe, "--json", folder=own_data.folder)
    assert outcome.status == 0
    assert outcome.json["metrics"]["r_mean"] >= 0
    assert "a seeded tenth of the training media was held out" in outcome.err
    assert "Warning" not in outcome.err


def test_a_users_error(own_data: OwnData) -> None:
    (own_data.folder / "test0.png").unlink()
    outcome = run_process("evaluate", "-q", own_data.recipe, "--json", folder=own_data.folder)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("aurora: 1 of 6 listed media are absent")
    assert outcome.err.count("\n") == 1


def _train(own_data: OwnData, *more: str) -> tuple[object, ...]:
    return (
        *("train", own_data.recipe, "training.output=run", "training.epochs=40"),
        *("training.validations=20", "adapter.dropout=0.2", "data.augmentation=safe", *more),
    )


def _interrupted(process_folder: Path, own_data: OwnData, number: signal.Signals) -> Outcome:
    """Start a run and send it a signal after its second checkpoint."""
    process = start_process(*_train(own_data), folder=process_folder)
    checkpoints = process_folder / "run" / "checkpoints"
    seen: set[str] = set()
    while process.poll() is None and len(seen) < 2:
        seen |= {path.name for path in checkpoints.glob("checkpoint-*")}
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate()
    assert not (process_folder / "run" / "metrics.json").exists(), "it ended too soon"
    return Outcome(process.returncode, out, err)


def test_a_killed_run_resumes_to_the_same_end(own_data: OwnData, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    undisturbed = start_process(*_train(own_data), folder=whole)
    assert _interrupted(killed, own_data, signal.SIGKILL).status == -signal.SIGKILL
    resumed = run_process(*_train(own_data, "--resume"), folder=killed)
    assert resumed.status == 0, resumed.err
    _, err = undisturbed.communicate()
    assert undisturbed.returncode == 0, err
    ends = [json.loads((folder / "run/metrics.json").read_text()) for folder in (whole, killed)]
    assert ends[0]["metrics"] == ends[1]["metrics"]
    assert ends[0]["config"] == ends[1]["config"]
    weights = [f / "run/adapter/adapter_model.safetensors" for f in (whole, killed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    histories = [json.loads((f / "run/history.json").read_text()) for f in (whole, killed)]
    scores = [[e["eval_r_mean"] for e in h if "eval_r_mean" in e] for h in histories]
    assert scores[0] == scores[1]


def test_ctrl_c_says_how_to_go_on(own_data: OwnData, tmp_path: Path) -> None:
    outcome = _interrupted(tmp_path, own_data, signal.SIGINT)
    assert outcome.status == 130
    assert outcome.err.splitlines()[-1].startswith("aurora: interrupted; ")
    assert "--resume" in outcome.err
    assert "Traceback" not in outcome.err
