"""The released arithmetic, recomputed by our modules, and that the check itself can fail."""

from __future__ import annotations

import importlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden_reference
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
FILE = DATA / "reference_golden.safetensors"
MATCHING = ("itm/logits", "input/images", "input/text_ids", "input/text_mask")
# Inputs that no name seeds, as in the stored file.
GIVEN = ("input/vqa_weights", "input/frame_aware_attention_weight")
RETRIEVAL = ("retrieval_", "train3/", "input/train_", "input/image_queue", "input/text_queue")
QUICK = ("fill_check/", "deltaw/", "itm/")


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("check_golden")


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    return load_file(FILE)


@pytest.fixture
def matching(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The smallest file that can be checked."""
    return {name: stored[name].clone() for name in MATCHING}


def written(tensors: dict[str, Tensor], path: Path) -> str:
    save_file(tensors, path)
    return str(path)


def test_every_tensor_of_the_released_code_is_reproduced(
    script: Any, stored: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    status = script.main([str(FILE)])
    lines = capsys.readouterr().out.splitlines()
    assert status == 0, lines
    assert "309 of 309 tensors checked" in lines[-1]
    groups = {name.partition("/")[0] for name in stored} - {"input"}
    assert {line.split()[0] for line in lines if line.endswith(" ok")} == groups


def test_a_difference_above_the_tolerance_fails_and_is_named(
    script: Any, matching: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logits = matching["itm/logits"]
    logits[0, 1] += 2e-9 * logits.abs().max()
    assert script.main([written(matching, tmp_path / "file")]) == 1
    out = capsys.readouterr().out
    assert "itm/logits: error 2e-09" in out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("FAIL")] == ["itm"]


def test_what_is_not_recomputed_fails(
    script: Any, matching: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strangers = ("itm/other", "group/logits", "input/noise", "alone")
    given = matching | {name: torch.zeros(2) for name in strangers}
    assert script.main([written(given, tmp_path / "file")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert {f"{name}: not checked" for name in strangers} <= set(lines)
    assert "4 of 8 tensors checked" in lines[-1]


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_file_made_by_another_way_with_another_prefix(
    script: Any,
    stored: dict[str, Tensor],
    whole: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """transformers' modules and plain formulas give the file; it passes with its prefix alone.

    The losses of retrieval, which take longest, are in the slow half.
    """
    if not whole:
        stored = {name: t for name, t in stored.items() if not name.startswith(RETRIEVAL)}
    names = json.loads((DATA / "param_names.json").read_text())
    made = golden_reference.golden("elsewhere/", names, stored)
    numbers = [n for n, t in made.items() if t.is_floating_point() and n not in GIVEN]
    assert not any(made[name].equal(stored[name]) for name in numbers)
    status = script.main([written(made, tmp_path / "made"), "--prefix", "elsewhere/"])
    lines = capsys.readouterr().out.splitlines()
    assert status == 0, lines
    assert f"{len(stored)} of {len(stored)} tensors checked" in lines[-1]
    quick = {n: t for n, t in made.items() if n.startswith(QUICK) or n in MATCHING}
    assert script.main([written(quick, tmp_path / "quick")]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = {line.split()[0] for line in lines if line.endswith("FAIL")}
    assert failed == {"fill_check", "deltaw", "itm"}


def test_our_own_results_can_be_written(
    script: Any, matching: dict[str, Tensor], tmp_path: Path
) -> None:
    made = tmp_path / "made"
    given = written(matching, tmp_path / "given")
    assert script.main([given, "--prefix", "second/", "--write", str(made)]) == 0
    assert script.main([str(made), "--prefix", "second/"]) == 0
    tensors = load_file(made)
    assert {n: t.shape for n, t in tensors.items()} == {n: t.shape for n, t in matching.items()}
    assert not tensors["itm/logits"].equal(matching["itm/logits"])


def test_the_prefix_stands_before_every_name(script: Any) -> None:
    fill = script.Fill("second/")
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(b"second/CP_C")))
    numbers = generator.standard_normal(8**3, dtype=np.float32).reshape(8, 8, 8)
    assert np.array_equal(fill.normal("CP_C", 8, 8, 8), numbers)
    assert np.array_equal(fill.parameter("CP_C", (8, 8, 8)), 0.5 * numbers.astype(float))


@pytest.mark.parametrize(
    ("ours", "theirs", "error"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [2.0, -4.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 1e-30], [0.0, 0.0], float("inf")),
        ([1.0, float("nan")], [1.0, 2.0], float("inf")),
        ([1.0, float("nan")], [1.0, float("nan")], float("inf")),
        ([1.0, 2.0], [1.0, 2.0, 3.0], float("inf")),
        ([1.0, 2.0], [1, 2], float("inf")),
        ([1, 2], [1, 2], 0.0),
        ([1_000_000_001, 2], [1_000_000_000, 2], float("inf")),
        ([], [], 0.0),
    ],
)
def test_the_error_of_a_tensor(
    script: Any, ours: list[float], theirs: list[float], error: float
) -> None:
    assert script.relative_error(torch.tensor(ours), torch.tensor(theirs)) == error


@pytest.mark.parametrize("kind", ["absent", "text", "strange", "inputless"])
def test_a_file_of_no_use_is_a_sentence(
    script: Any,
    matching: dict[str, Tensor],
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "file"
    if kind == "text":
        path.write_text("numbers")
    elif kind == "strange":
        written({"other/logits": torch.zeros(2)}, path)
    elif kind == "inputless":
        del matching["input/images"]
        written(matching, path)
    assert script.main([str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("task", ["retrieval", "vqa"])
def test_every_parameter_of_the_released_code_has_its_place(script: Any, task: str) -> None:
    """Names and shapes, the momentum copies (which are no parameters of ours) aside."""
    golden = importlib.import_module("golden_model")
    build = {"retrieval": golden.retrieval_model, "vqa": golden.answering_model}[task]
    model = build(golden.Fill(), golden.RELEASED)
    ours = golden.assembled(
        {n: p for n, p in model.named_parameters() if ".original_module." not in n}
    )
    theirs = json.loads((DATA / "param_names.json").read_text())[task]
    live = {n: tuple(s) for n, s in theirs.items() if "_m." not in n}
    assert {name: tuple(array.shape) for name, array in ours.items()} == live
