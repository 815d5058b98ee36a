"""Re-ranking, inference and data on the bundled model; what the command prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import run_in_process

from aurora_vl.benchmarking import inference, rerank
from aurora_vl.benchmarking.setup import Setup
from aurora_vl.evaluation.matching import match_texts
from aurora_vl.tasks.retrieval import backbone_of

MINI = Setup(backbone="mini")


def test_re_ranking_gives_the_plain_loops_scores_and_order() -> None:
    forms = rerank.contenders(MINI, candidates=20, pictures=2)
    ours, theirs = forms["aurora"](), forms["plain"]()
    assert ours.shape == (2, 20)
    assert rerank.difference(ours, theirs) < 1e-4
    assert theirs.std() > 0.01  # an order to get wrong
    with pytest.raises(RuntimeError, match="differs from the plain loop"):
        rerank.difference(ours.flip(1), theirs)


def test_texts_matched_in_parts_score_as_together() -> None:
    backbone = backbone_of(MINI.with_aurora(start=False))
    batch = MINI.pairs(8)
    with torch.inference_mode():
        cross = backbone.cross_keys(backbone.encode_image(batch["pixel_values"][:1])[0])
        texts = batch["input_ids"], batch["attention_mask"]
        together = backbone.match(*texts, cross)[:, 1].double()
        parts = match_texts(backbone, cross, *texts, at_once=3)
    assert torch.allclose(parts, together, atol=1e-5)


def test_merged_scores_are_the_unmerged_ones() -> None:
    scores = {name: inference.contender(name, MINI)() for name in inference.CONTENDERS}
    assert torch.allclose(scores["frozen"], scores["transformers"], atol=1e-4)
    assert torch.allclose(scores["merged"], scores["unmerged"], atol=1e-4)
    assert not torch.allclose(scores["merged"], scores["frozen"], atol=1e-2)
    gated, mixed = scores["unmerged with query gates"], scores["mixed adapters"]
    assert torch.allclose(mixed[0], gated[0], atol=1e-4)
    assert torch.allclose(mixed[2], scores["frozen"][2], atol=1e-4)  # the row without an adapter


def test_the_command_writes_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "inference.json"
    done = run_in_process(
        "bench", "inference", "--backbone", "mini", "--repeats", "1", "--no-memory", "--json", file
    )
    assert done.status == 0, done.err
    assert "merged" in done.out
    written = json.loads(file.read_text())
    assert {"device", "threads", "load_before"} <= written["machine"].keys()
    rows = {row["name"]: row for row in written["rows"]}
    assert {"median_s", "min_s", "max_s", "peak_mb", "ratio"} <= rows["inference: merged"].keys()
    assert rows["inference: frozen"]["ratio"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rest"], "there is no job 'rest'"),
        (["data", "--json", "no-such-folder/x.json"], "no-such-folder does not exist"),
        (["data", "--backbone", "./nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_is_a_sentence(arguments: list[str], said: str) -> None:
    done = run_in_process("bench", *arguments)
    assert done.status == 2
    assert said in " ".join(done.err.split())
