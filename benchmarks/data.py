"""Data: whether decoding and augmentation keep up with the training step.

Seconds are those of one picture, or of one wanted frame of a video. Pictures of an ordinary size go
the way of training: decoded, cut and resized by two workers, collated, augmented as a batch on the
device. A folder of them is encoded by `Retriever.encode_images` and, for comparison, by the bare
forward pass of the same batches, decoded before. Frames of a minute's video are read by seeking
and, for comparison, by decoding all of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from aurora_vl.backbones.base import PreparationSettings
from aurora_vl.backbones.blip.preparation import BlipPreprocessor
from aurora_vl.backbones.families import load_tokenizer
from aurora_vl.backbones.folders import MINI
from aurora_vl.data.augment import Augment
from aurora_vl.data.collate import RetrievalCollator
from aurora_vl.data.datasets import RetrievalTrainSet
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.video import read_frames
from aurora_vl.inference.retriever import Retriever
from benchmarks.clips import RATE, decode_everything, write_clip
from benchmarks.measuring import Row, rows_of, time_in_turn
from benchmarks.setup import Setup, in_use, moved, prepared
from benchmarks.train_step import contender

JOB = "data"
STEP = "training step"
WORKERS = 2
DECODING = f"decoding, {WORKERS} workers"
FORWARD = "forward pass alone"
ENCODING = "encode_images of a folder"
CLIP_SECONDS = 60
KEY_EVERY = (2, 10)  # seconds: cameras and video sites; x264's own choice
FRAMES = 8
_PICTURES = 64
_FOLDER = 500
_WIDTH, _HEIGHT = 640, 480
_CROP = (0.5, 1.0)


def pictures(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Decoding and augmentation of pictures against a training step on them."""
    settings = PreparationSettings(crop_scale=_CROP)
    prepare = BlipPreprocessor(load_tokenizer(MINI), setup.config(), settings)
    with tempfile.TemporaryDirectory() as folder:
        pairs = RetrievalTrainSet(_pictures(Path(folder), _PICTURES), prepare, seed=0)
        loader = DataLoader(
            pairs,
            setup.batch,
            collate_fn=RetrievalCollator(prepare),
            num_workers=WORKERS,
            persistent_workers=True,
        )
        batch = moved(next(iter(loader)), setup.torch_device)
        given = batch["media"], setup.torch_device, torch.float32
        augment, seeds = Augment("full"), batch["augment_seed"]
        forms: dict[str, Callable[[], object]] = {
            STEP: contender("aurora", setup),
            DECODING: lambda: [None for _ in loader],  # a whole epoch: nothing is fetched ahead
            "augmentation": lambda: prepare.finish(*given, augment, seeds),
        }
        items = dict.fromkeys(forms, setup.batch) | {DECODING: len(pairs)}
        return _rows(forms, items, setup, repeats, reference=STEP)


def encoding(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """A folder of pictures encoded, against the forward pass of its batches, decoded before."""
    tuned = in_use(setup.with_aurora(start=False))
    retriever, encoder = Retriever(tuned), tuned.family.dual_encoder(tuned.model)
    with tempfile.TemporaryDirectory() as place:
        records = _pictures(Path(place), _FOLDER)
        paths = [record.path for record in records]
        decoded = list(prepared(tuned, records, retriever.batch_size, retriever.device))

        @torch.inference_mode()
        def forward() -> torch.Tensor:
            features = [encoder.encode_media(each, features_only=True).features for each in decoded]
            return torch.cat(features).cpu()

        forms: dict[str, Callable[[], object]] = {
            FORWARD: forward,
            ENCODING: lambda: retriever.encode_images(paths, progress=False),
        }
        found = torch.from_numpy(retriever.encode_images(paths, progress=False))
        worst = float((forward() - found).abs().max())
        items = dict.fromkeys(forms, _FOLDER)
        return _rows(forms, items, setup, repeats, reference=FORWARD, difference={ENCODING: worst})


def videos(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Wanted frames of a video by seeking against decoding all of it, by its key frames."""
    rows = []
    for gap in KEY_EVERY:
        seeking, everything = (f"{how}, key frame every {gap} s" for how in ("seeking", "all"))
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.mp4"
            write_clip(clip, CLIP_SECONDS, gap * RATE)
            forms: dict[str, Callable[[], object]] = {
                everything: partial(decode_everything, clip, FRAMES),
                seeking: partial(read_frames, clip, FRAMES),
            }
            items = dict.fromkeys(forms, FRAMES)
            rows += _rows(forms, items, setup, repeats, reference=everything)
    return rows


def _rows(
    forms: dict[str, Callable[[], object]],
    items: dict[str, int],
    setup: Setup,
    repeats: int,
    *,
    reference: str,
    difference: dict[str, float] | None = None,
) -> list[Row]:
    """Rows of seconds an item."""
    timed = time_in_turn(forms, repeats, setup.torch_device)
    seconds = {name: [value / items[name] for value in timed[name]] for name in forms}
    once = dict.fromkeys(forms, 1)
    return rows_of(JOB, seconds, reference=reference, items=once, difference=difference)


def _pictures(folder: Path, count: int) -> list[CaptionedMedia]:
    """Smooth random pictures as JPEG files, which decode like photographs."""
    rng = np.random.default_rng(5)
    records = []
    for index in range(count):
        coarse = rng.integers(256, size=(_HEIGHT // 16, _WIDTH // 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
        path = folder / f"{index}.jpg"
        image.save(path, quality=90)
        records.append(CaptionedMedia(str(index), path, "image", ("a red dog on a box",)))
    return records
