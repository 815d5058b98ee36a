"""Hard negatives: never the same picture, drawn from the softmax by inverse transform."""

from __future__ import annotations

import pytest
import torch
from in_use import by_part
from tiny_blip import batch, tiny_model
from torch import Tensor

from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.objectives import matching
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask

LOGITS = torch.tensor([-torch.inf, 1.0, -0.5, -torch.inf, 2.0, 0.0, -torch.inf])
MASKED = {0, 3, 6}
ALMOST_ONE = float(torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)))


def draw(uniforms: Tensor, logits: Tensor = LOGITS) -> Tensor:
    return matching.draw(logits.expand(len(uniforms), -1), uniforms)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_evenly_spaced_numbers_give_the_softmax(dtype: torch.dtype) -> None:
    count = 10_000
    uniforms = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    logits = LOGITS.to(dtype)
    found = torch.bincount(draw(uniforms, logits), minlength=len(LOGITS))
    expected = count * logits.double().softmax(0)
    assert (found - expected).abs().max() <= 1.0
    assert all(found[column] == 0 for column in MASKED)


def test_random_numbers_give_the_softmax() -> None:
    count = 20_000
    uniforms = torch.rand(count, generator=torch.Generator().manual_seed(0))
    found = torch.bincount(draw(uniforms), minlength=len(LOGITS)).double()
    expected = count * LOGITS.double().softmax(0)
    open_ = expected > 0
    statistic = float(((found - expected)[open_] ** 2 / expected[open_]).sum())
    assert statistic < 16.3  # chi-square of 3 degrees of freedom, 1 in 1000
    assert found[~open_].sum() == 0


def test_the_ends_of_the_interval() -> None:
    """u = 0 gives the first column that is not masked, u near 1 the last; 1 itself is no error."""
    found = draw(torch.tensor([0.0, ALMOST_ONE, 1.0])).tolist()
    assert found[:2] == [1, 5]
    assert found[2] not in MASKED


def test_one_open_column_is_always_drawn() -> None:
    logits = torch.full((5,), -torch.inf)
    logits[3] = -700.0
    assert draw(torch.tensor([0.0, 0.5, ALMOST_ONE]), logits).tolist() == [3, 3, 3]


def test_overwhelming_logits() -> None:
    logits = torch.tensor([-torch.inf, -1e4, 1e4, -1e4])
    assert draw(torch.tensor([0.0, 0.5, ALMOST_ONE]), logits).tolist() == [2, 2, 2]


def test_the_largest_without_numbers() -> None:
    assert matching.draw(LOGITS[None], None).tolist() == [4]


@pytest.mark.parametrize("method", ["full", "aurora"])
def test_negatives_are_of_other_pictures(method: str) -> None:
    """Each column that may be drawn is drawn, the pictures of the pair itself never."""
    index = [0, 1, 1, 2, 0, 3]
    encoder = BlipDualEncoder(tiny_model(method))
    task = RetrievalTask(encoder, RetrievalSettings(queue=0))
    given = by_part(batch(index))
    with torch.no_grad():
        encoder.backbone.temperature.weight.fill_(10.0)  # nearly even chances
        live = encoder.encode_pairs(given["media"], given["texts"])
    media = given["media_index"]
    seen: list[set[tuple[str, int]]] = [set() for _ in index]
    for step in range(200):
        uniforms = torch.rand(len(index), 2, generator=torch.Generator().manual_seed(step))
        images, texts, valid = task._negatives(*live, media, media, uniforms)
        assert valid.all()
        for row, (image, text) in enumerate(zip(images.tolist(), texts.tolist())):
            seen[row] |= {("image", image), ("text", text)}
    for row, owner in enumerate(index):
        others = {column for column, other in enumerate(index) if other != owner}
        assert seen[row] == {(kind, column) for kind in ("image", "text") for column in others}
