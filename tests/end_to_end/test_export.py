"""The demo's recipe trained without query gates, exported, and used where we are not installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run_in_process
from peft import PeftModel
from torch import Tensor
from without_us import ANSWERS, RETRIEVAL, run_without_us

import aurora_vl

SMALL = (
    *("data.world.train=24", "data.world.val=4", "data.world.test=6"),
    *("training.epochs=2", "training.batch_size=8", "training.validations=1"),
)
CAPTIONS = ("a red square left of a blue star", "green moon", "two yellow boats")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the demo's recipe on a small world: `off` without gates, `on` with them."""
    folder = tmp_path_factory.mktemp("runs")
    for name, gqt in (("off", "off"), ("on", "released")):
        places = (f"training.output={folder / name}", f"data.annotations={folder / 'world'}")
        outcome = run_in_process("train", "demo-retrieval", f"adapter.gqt={gqt}", *places, *SMALL)
        assert outcome.status == 0, outcome.err
    return folder


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    words = aurora_vl.load_tokenizer("mini")(list(CAPTIONS), padding=True, return_tensors="pt")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(3, 3, 64, 64, generator=generator, dtype=torch.float64)
    return pixels, words.input_ids, words.attention_mask


@torch.no_grad()
def our_scores(adapter: Path | None) -> dict[str, Tensor]:
    model: Any = aurora_vl.load("mini", dtype=torch.float64)
    if adapter:
        model = PeftModel.from_pretrained(model, str(adapter)).eval().get_base_model()
    pixels, ids, mask = inputs()
    states, images = model.encode_image(pixels)
    return {
        "cosine": images @ model.encode_text(ids, mask)[1].T,
        "match": model.match(ids, mask, model.cross_keys(states)),
    }


def their_calls() -> dict[str, dict[str, Any]]:
    pixels, ids, mask = inputs()
    fused = ids.clone()
    fused[:, 0] = aurora_vl.load("mini").config.text_config.enc_token_id
    given = {"pixel_values": pixels, "attention_mask": mask}
    return {
        "cosine": {**given, "input_ids": ids, "use_itm_head": False},
        "match": {**given, "input_ids": fused, "use_itm_head": True},
    }


def test_the_demos_adapter_as_a_lora(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = runs / "off" / "adapter"
    outcome = run_in_process("export", adapter, tmp_path / "lora", "--to", "lora")
    assert outcome.status == 0, outcome.err
    command = outcome.out.split('python -c "')[1].split('"')[0]
    monkeypatch.chdir(tmp_path)
    exec(command)  # writes the folder ./mini
    found, faults = run_without_us(
        tmp_path / "job", RETRIEVAL, tmp_path / "mini", their_calls(), tmp_path / "lora"
    )
    assert faults == []
    expected, frozen = our_scores(adapter), our_scores(None)
    for name, scores in expected.items():
        assert (scores - frozen[name]).abs().max() > 1e-3
        torch.testing.assert_close(found[name], scores, rtol=1e-10, atol=1e-10)


def test_the_demos_adapter_merged(runs: Path, tmp_path: Path) -> None:
    adapter = runs / "off" / "adapter"
    outcome = run_in_process("export", adapter, tmp_path / "merged", "--to", "merged")
    assert outcome.status == 0, outcome.err
    found, faults = run_without_us(tmp_path / "job", RETRIEVAL, tmp_path / "merged", their_calls())
    assert faults == []
    for name, scores in our_scores(adapter).items():
        torch.testing.assert_close(found[name], scores, rtol=1e-4, atol=1e-4)
    scored = run_in_process(
        *("evaluate", "demo-retrieval", f"backbone={tmp_path / 'merged'}", "--json"),
        *("--out", tmp_path / "evaluation", f"data.annotations={runs / 'world'}", *SMALL),
    )
    tuned = json.loads((runs / "off" / "metrics.json").read_text())["metrics"]
    assert scored.json["metrics"]["r_mean"] == pytest.approx(tuned["r_mean"])


def test_the_demos_adapter_with_gates_is_refused(runs: Path, tmp_path: Path) -> None:
    for form in ("lora", "merged"):
        outcome = run_in_process("export", runs / "on" / "adapter", tmp_path / "o", "--to", form)
        assert outcome.status == 2
        assert outcome.err.count("\n") == 1
        assert "train again with adapter.gqt=off" in outcome.err
    assert not any(tmp_path.iterdir())


def test_the_question_demos_adapter_as_a_lora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoders and answer decoder: the loss of an answer by their class, and its answer."""
    run = tmp_path / "run"
    places = (f"training.output={run}", f"data.annotations={tmp_path / 'world'}")
    settings = ("adapter.gqt=off", "training.epochs=1", *SMALL[:3], *SMALL[4:], *places)
    assert run_in_process("train", "demo-vqa", *settings).status == 0
    outcome = run_in_process("export", run / "adapter", tmp_path / "lora", "--to", "lora")
    assert outcome.status == 0, outcome.err
    monkeypatch.chdir(tmp_path)
    exec(outcome.out.split('python -c "')[1].split('"')[0])  # writes the folder ./mini

    tokenizer = aurora_vl.load_tokenizer("mini")
    frozen = aurora_vl.load("mini", task="vqa", dtype=torch.float64)
    again = aurora_vl.load("mini", task="vqa", dtype=torch.float64)
    tuned: Any = PeftModel.from_pretrained(again, str(run / "adapter")).eval().get_base_model()
    ids = tokenizer(["what is left of the star"], return_tensors="pt").input_ids
    answers = tokenizer(["red square"], return_tensors="pt").input_ids
    answers[:, 0] = frozen.config.text_config.bos_token_id
    pixels = inputs()[0][:1]
    asked = ids.clone()
    asked[:, 0] = frozen.config.text_config.enc_token_id
    given = {"pixel_values": pixels, "input_ids": asked}
    calls = {
        "loss": {**given, "labels": answers},
        "answer": {**given, "max_new_tokens": 6, "num_beams": 2, "do_sample": False},
    }
    found, faults = run_without_us(
        tmp_path / "job", ANSWERS, tmp_path / "mini", calls, tmp_path / "lora"
    )
    assert faults == []

    @torch.no_grad()
    def loss(model: Any) -> Tensor:
        logits = model(pixels, ids, None, answers)[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers[:, 1:].flatten())

    assert (loss(tuned) - loss(frozen)).abs() > 1e-3
    torch.testing.assert_close(found["loss"], loss(tuned), rtol=1e-10, atol=1e-10)
    expected = tuned.generate(pixels, ids, max_new_tokens=6, num_beams=2)
    assert found["answer"].equal(expected)
