"""Data: whether decoding and augmentation keep up with the training step.

Seconds are those of one picture, or of one wanted frame of a video. Pictures of an ordinary size go
the way of training: decoded, cut and resized by two workers, collated, augmented as a batch on the
device. Frames of a minute's video are read by seeking and, for comparison, by decoding all of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from aurora_vl.backbones.blip.loading import MINI, load_tokenizer
from aurora_vl.data.augment import Augment
from aurora_vl.data.collate import RetrievalCollator
from aurora_vl.data.datasets import RetrievalTrainSet
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.transforms import ImageTransform, to_model_input
from aurora_vl.data.video import read_frames
from benchmarks.clips import RATE, decode_everything, write_clip
from benchmarks.measuring import Row, rows_of, time_in_turn
from benchmarks.setup import Setup
from benchmarks.train_step import contender

JOB = "data"
STEP = "training step"
WORKERS = 2
DECODING = f"decoding, {WORKERS} workers"
CLIP_SECONDS = 60
KEY_EVERY = (2, 10)  # seconds: cameras and video sites; x264's own choice
FRAMES = 8
_PICTURES = 64
_WIDTH, _HEIGHT = 640, 480
_CROP = (0.5, 1.0)


def pictures(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Decoding and augmentation of pictures against a training step on them."""
    size = setup.config().vision_config.image_size
    with tempfile.TemporaryDirectory() as folder:
        pairs = RetrievalTrainSet(_pictures(Path(folder)), ImageTransform(size, _CROP), seed=0)
        loader = DataLoader(
            pairs,
            setup.batch,
            collate_fn=RetrievalCollator(load_tokenizer(MINI)),
            num_workers=WORKERS,
            persistent_workers=True,
        )
        batch = next(iter(loader))
        pixels, seeds = (batch[k].to(setup.torch_device) for k in ("pixel_values", "augment_seed"))
        augment = Augment("full")
        forms: dict[str, Callable[[], object]] = {
            STEP: contender("aurora", setup),
            DECODING: lambda: [None for _ in loader],  # a whole epoch: nothing is fetched ahead
            "augmentation": lambda: to_model_input(pixels, augment, seeds),
        }
        items = dict.fromkeys(forms, setup.batch) | {DECODING: len(pairs)}
        return _rows(forms, items, setup, repeats, reference=STEP)


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
) -> list[Row]:
    """Rows of seconds an item."""
    timed = time_in_turn(forms, repeats, setup.torch_device)
    seconds = {name: [value / items[name] for value in timed[name]] for name in forms}
    return rows_of(JOB, seconds, reference=reference, items=dict.fromkeys(forms, 1))


def _pictures(folder: Path) -> list[CaptionedMedia]:
    """Smooth random pictures as JPEG files, which decode like photographs."""
    rng = np.random.default_rng(5)
    records = []
    for index in range(_PICTURES):
        coarse = rng.integers(256, size=(_HEIGHT // 16, _WIDTH // 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
        path = folder / f"{index}.jpg"
        image.save(path, quality=90)
        records.append(CaptionedMedia(str(index), path, "image", ("a red dog on a box",)))
    return records
