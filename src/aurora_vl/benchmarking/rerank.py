"""Re-ranking: pictures with their candidate captions, keys once a picture against once a pair.

Pairs a second are measured on a few pictures, with the scores and the order of both forms compared;
how memory grows, on whole evaluations of galleries of two sizes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aurora_vl.benchmarking import plain
from aurora_vl.benchmarking.measuring import Row, rows_of, time_in_turn
from aurora_vl.benchmarking.memory import peaks_of
from aurora_vl.benchmarking.setup import BASE, Setup, captions
from aurora_vl.data.collate import MAX_TOKENS
from aurora_vl.data.datasets import MediaSet, caption_table
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.transforms import ImageTransform, to_model_input
from aurora_vl.evaluation.matching import match_texts
from aurora_vl.evaluation.retrieval import evaluate_retrieval
from aurora_vl.modeling.load import MINI, load_tokenizer
from aurora_vl.tasks.retrieval import backbone_of

JOB = "rerank"
GALLERY_JOB = "gallery"
SIZES = (384, 224)
CANDIDATES = 128
PICTURES = 2
GALLERIES = (50, 500)
TOLERANCE = 1e-4
_BATCH = 8
_COLOURS = ("red", "green", "blue", "black", "white", "yellow")


def contenders(
    setup: Setup, candidates: int = CANDIDATES, pictures: int = PICTURES
) -> dict[str, Callable[[], Tensor]]:
    """Both forms of the second stage: each call gives matching logits (pictures, candidates)."""
    model = setup.with_aurora(start=False)
    backbone = backbone_of(model)
    generator = torch.Generator().manual_seed(3)
    ids, mask = captions(candidates, setup.config().text_config.vocab_size, generator)
    ids, mask = ids.to(setup.torch_device), mask.to(setup.torch_device)
    with torch.inference_mode():
        states = backbone.encode_image(setup.pairs(pictures)["pixel_values"])[0]
    every = torch.arange(candidates, device=ids.device).expand(pictures, -1)

    @torch.inference_mode()
    def ours() -> Tensor:
        keys = (backbone.cross_keys(state[None]) for state in states)
        return torch.stack([match_texts(backbone, cross, ids, mask) for cross in keys])

    @torch.inference_mode()
    def theirs() -> Tensor:
        return plain.rerank(model, states, ids, mask, every).double().cpu()

    return {"plain": theirs, "aurora": ours}


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of two forms' scores (M, K), of which the order must be the same.

    Raises:
        RuntimeError: scores differ by more than `TOLERANCE`, or two captions further apart than
            that stand the other way round.
    """
    worst = float((ours - theirs).abs().max())
    sorted_by_theirs = ours.gather(1, theirs.argsort(1, descending=True))
    rise = float(sorted_by_theirs.diff(dim=1).max())
    if worst > TOLERANCE or rise > 2 * TOLERANCE:
        raise RuntimeError(f"re-ranking differs from the plain loop by {worst:.1e}, {rise:.1e}")
    return worst


def compare(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Pairs a second at each image size, then peak memory by size of the gallery."""
    rows = []
    sizes = SIZES if setup.backbone == BASE else (setup.config().vision_config.image_size,)
    for size in sizes:
        forms = contenders(replace(setup, image_size=size))
        difference(forms["aurora"](), forms["plain"]())
        seconds = time_in_turn(forms, repeats, setup.torch_device)
        pairs = dict.fromkeys(forms, PICTURES * CANDIDATES)
        rows += rows_of(f"{JOB} at {size} px", seconds, reference="plain", items=pairs)
    if memory:
        rows += [row for items in GALLERIES for row in _gallery_rows(replace(setup, items=items))]
    return rows


def contender(name: str, setup: Setup) -> Callable[[], object]:
    """A whole evaluation of a gallery of `setup.items` pictures, one candidate a query."""
    model = setup.with_aurora(start=False)

    def ours() -> object:
        with _gallery(setup) as records:
            tokenizer = load_tokenizer(MINI)
            return evaluate_retrieval(model, tokenizer, records, rerank=1, batch_size=_BATCH)

    def theirs() -> object:
        with _gallery(setup) as records:
            return _plain_evaluation(setup, backbone_of(model), records)

    return ours if name == "aurora" else theirs


@torch.inference_mode()
def _plain_evaluation(
    setup: Setup, backbone: torch.nn.Module, records: list[CaptionedMedia]
) -> Tensor:
    """The published loop: the states of all pictures are kept until the last pair is scored."""
    model = backbone_of(backbone)
    encoded = load_tokenizer(MINI)(
        caption_table(records)[0], padding=True, truncation=True, max_length=MAX_TOKENS,
        return_tensors="pt",
    )  # fmt: skip
    ids, mask = (encoded[k].to(setup.torch_device) for k in ("input_ids", "attention_mask"))
    media = MediaSet(records, ImageTransform(model.config.vision_config.image_size))
    batches = torch.utils.data.DataLoader(media, _BATCH)
    states = torch.cat(
        [plain.image_states(model, to_model_input(batch.to(ids.device))) for batch in batches]
    )
    own = torch.arange(len(records), device=ids.device)[:, None]
    return plain.rerank(model, states, ids, mask, own)


@contextmanager
def _gallery(setup: Setup) -> Iterator[list[CaptionedMedia]]:
    """Pictures of noise on disk, one caption each."""
    rng = np.random.default_rng(4)
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for index in range(setup.items):
            path = Path(folder) / f"{index}.jpg"
            Image.fromarray(rng.integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
            caption = f"a {_COLOURS[index % len(_COLOURS)]} dog"
            records.append(CaptionedMedia(str(index), path, "image", (caption,)))
        yield records


def _gallery_rows(setup: Setup) -> list[Row]:
    """One timed evaluation of each form with its peak memory."""
    names = ("plain", "aurora")
    peaks, seconds = peaks_of(GALLERY_JOB, names, setup, runs=1)
    timed = {name: [seconds[name]] for name in names}
    return rows_of(f"{GALLERY_JOB} of {setup.items}", timed, reference="plain", peaks=peaks)
