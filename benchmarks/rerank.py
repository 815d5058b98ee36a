"""Re-ranking: media with their candidate captions, keys once a medium against once a pair.

Seconds a pair are measured on one medium with its candidates, the scores and the order of both
forms compared; how memory grows, on whole evaluations of galleries of two sizes.
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

from aurora_vl.backbones.base import PreparationSettings, TextInputs
from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder, retrieval_backbone
from aurora_vl.backbones.blip.frame_attention import frame_key_scale
from aurora_vl.data.datasets import caption_table
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.evaluation.retrieval import evaluate_retrieval
from aurora_vl.inference.retriever import Retriever
from benchmarks import reference_implementation as published
from benchmarks.measuring import Row, rows_of, time_in_turn
from benchmarks.memory import peaks_of
from benchmarks.operations import GIGA, counting
from benchmarks.setup import BASE, Setup, captions, in_use, prepared

JOB = "rerank"
GALLERY_JOB = "gallery"
REFERENCE, OURS = "reference", "aurora"
SIZES = (384, 224)
CANDIDATES = 128
FRAMES = 8
REFERENCE_VIDEO_CANDIDATES = 16
GALLERIES = (50, 500)
TOLERANCE = 1e-4
_BATCH = 8
_COLOURS = ("red", "green", "blue", "black", "white", "yellow")


def contenders(
    setup: Setup, candidates: int, media: int = 1, *, reference_candidates: int | None
) -> dict[str, Callable[[], Tensor]]:
    """Both forms of the second stage: each call gives matching logits (media, candidates).

    Args:
        setup: sizes; with `frames` the media are videos, whose keys are scaled for each text.
        candidates: captions of each medium.
        media: how many.
        reference_candidates: so many of them for the reference implementation, which takes
            long; None for all.
    """
    model = setup.with_aurora(start=False)
    encoder = BlipDualEncoder(model)
    matcher = encoder.matcher
    assert matcher is not None
    generator = torch.Generator().manual_seed(3)
    ids, mask = captions(candidates, setup.config().text_config.vocab_size, generator)
    lengths = mask.sum(1)
    ids, mask = ids.to(setup.torch_device), mask.to(setup.torch_device)
    texts = TextInputs(input_ids=ids, attention_mask=mask)
    similarity = None
    with torch.inference_mode():
        states = encoder.encode_media(setup.pairs(media)["media"]).states
        assert states is not None
        if setup.frames:
            frames = encoder.frame_features(states, setup.frames)  # (M, T, D)
            similarity = encoder.encode_texts(texts).features @ frames.transpose(1, 2)

    @torch.no_grad()
    def ours() -> Tensor:
        alike = [None] * media if similarity is None else list(similarity)
        return torch.stack(
            [matcher.match(state[None], texts, lengths, each) for state, each in zip(states, alike)]
        )

    few = torch.arange(reference_candidates or candidates, device=ids.device).expand(media, -1)
    reference_scales = None
    if similarity is not None:
        reference_scales = torch.stack(
            [frame_key_scale(each[: few.shape[1]], states.shape[1]) for each in similarity]
        )

    @torch.no_grad()
    def theirs() -> Tensor:
        return published.rerank(model, states, ids, mask, few, reference_scales).double().cpu()

    return {REFERENCE: theirs, OURS: ours}


def difference(ours: Tensor, theirs: Tensor) -> tuple[float, int]:
    """Compare two forms' scores (M, K).

    Returns:
        the largest difference, and how many neighbours in one form's order the other, within twice
        the tolerance, has the other way round.

    Raises:
        RuntimeError: scores differ by more than `TOLERANCE`, or the order beyond that.
    """
    worst = float((ours - theirs).abs().max())
    rises = ours.gather(1, theirs.argsort(1, descending=True)).diff(dim=1)
    if worst > TOLERANCE or float(rises.max()) > 2 * TOLERANCE:
        raise RuntimeError(
            f"re-ranking differs from the reference loop by {worst:.1e}, {float(rises.max()):.1e}"
        )
    return worst, int((rises > 0).sum())


def pictures(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Seconds a pair at each image size."""
    sizes = SIZES if setup.backbone == BASE else (setup.config().vision_config.image_size,)
    return [
        row
        for size in sizes
        for row in _pair_rows(f"{JOB} at {size} px", replace(setup, image_size=size), repeats)
    ]


def videos(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Seconds a frame-aware pair; the reference loop meets a part of the candidates."""
    job = f"{JOB} of videos of {FRAMES} frames"
    return _pair_rows(job, replace(setup, frames=FRAMES), repeats, REFERENCE_VIDEO_CANDIDATES)


def galleries(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Peak memory and time of one whole evaluation by the gallery's size."""
    if not memory:
        return []
    return [row for items in GALLERIES for row in _gallery_rows(replace(setup, items=items))]


def _pair_rows(
    job: str, setup: Setup, repeats: int, reference_candidates: int | None = None
) -> list[Row]:
    """Both forms' seconds and operations a pair, after a comparison of their scores."""
    forms = contenders(setup, CANDIDATES, reference_candidates=reference_candidates)
    scores, gflop = {}, {}
    for name, form in forms.items():
        with counting() as counter:
            scores[name] = form()
        gflop[name] = counter.get_total_flops() / GIGA / scores[name].numel()
    few = scores[REFERENCE].shape[1]
    worst, turned = difference(scores[OURS][:, :few], scores[REFERENCE])
    ranking = "same ranking" if turned == 0 else f"{turned} near-ties turned round"
    timed = time_in_turn(forms, repeats, setup.torch_device)
    seconds = {name: [t / scores[name].numel() for t in timed[name]] for name in forms}
    return rows_of(
        job,
        seconds,
        reference=REFERENCE,
        items=dict.fromkeys(forms, 1),
        gflop=gflop,
        difference={OURS: worst},
        remark={OURS: ranking},
    )


def contender(name: str, setup: Setup) -> Callable[[], object]:
    """A whole evaluation of a gallery of `setup.items` pictures, one candidate a query."""
    model = setup.with_aurora(start=False)

    def ours() -> object:
        with _gallery(setup) as records:
            return evaluate_retrieval(Retriever(in_use(model), _BATCH), records, rerank=1)

    def theirs() -> object:
        with _gallery(setup) as records:
            return _reference_evaluation(setup, model, records)

    return ours if name == OURS else theirs


@torch.inference_mode()
def _reference_evaluation(
    setup: Setup, model: torch.nn.Module, records: list[CaptionedMedia]
) -> Tensor:
    """The published loop: the states of all pictures are kept until the last pair is scored."""
    backbone, device = retrieval_backbone(model), setup.torch_device
    tuned = in_use(model)
    preprocessor = tuned.preprocessor(PreparationSettings())
    texts = preprocessor.texts(caption_table(records)[0], "caption")
    ids, mask = texts["input_ids"].to(device), texts["attention_mask"].to(device)
    states = torch.cat(
        [
            published.image_states(backbone, media["pixel_values"])
            for media in prepared(tuned, records, _BATCH, device)
        ]
    )
    own = torch.arange(len(records), device=device)[:, None]
    return published.rerank(model, states, ids, mask, own)


@contextmanager
def _gallery(setup: Setup) -> Iterator[list[CaptionedMedia]]:
    """Pictures of noise on disk, one caption each."""
    rng = np.random.default_rng(4)
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for index in range(setup.items):
            path = Path(folder) / f"{index}.jpg"
            Image.fromarray(rng.integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
            # All different: of equal ones a large gallery would give one picture more at a time.
            caption = f"a {_COLOURS[index % len(_COLOURS)]} dog {index:03d}"
            records.append(CaptionedMedia(str(index), path, "image", (caption,)))
        yield records


def _gallery_rows(setup: Setup) -> list[Row]:
    """One timed evaluation of each form with its peak memory."""
    peaks, seconds = peaks_of(GALLERY_JOB, (REFERENCE, OURS), setup, runs=1)
    return rows_of(f"{GALLERY_JOB} of {setup.items}", seconds, reference=REFERENCE, peak_mb=peaks)
