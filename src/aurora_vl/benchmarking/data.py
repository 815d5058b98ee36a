"""Data: whether decoding and augmentation keep up with the training step.

Pictures of an ordinary size go the way of training: decoded, cut and resized by two workers,
collated, augmented as a batch on the device.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from aurora_vl.benchmarking.measuring import Row, rows_of, time_in_turn
from aurora_vl.benchmarking.setup import Setup
from aurora_vl.benchmarking.train_step import contender
from aurora_vl.data.augment import Augment
from aurora_vl.data.collate import RetrievalCollator
from aurora_vl.data.datasets import RetrievalTrainSet
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.transforms import ImageTransform, to_model_input
from aurora_vl.modeling.load import MINI, load_tokenizer

JOB = "data"
STEP = "training step"
WORKERS = 2
DECODING = f"decoding, {WORKERS} workers"
_PICTURES = 64
_WIDTH, _HEIGHT = 640, 480
_CROP = (0.5, 1.0)


def compare(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Seconds a batch of decoding and of augmentation, against a training step's.

    Args:
        setup: sizes and device.
        repeats: of each.
        memory: nothing is measured of it here.
    """
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
        forms = {
            STEP: contender("aurora", setup),
            DECODING: lambda: [None for _ in loader],  # a whole epoch: nothing is fetched ahead
            "augmentation": lambda: to_model_input(pixels, augment, seeds),
        }
        seconds = time_in_turn(forms, repeats, setup.torch_device)
        seconds[DECODING] = [value / len(loader) for value in seconds[DECODING]]
    return rows_of(JOB, seconds, reference=STEP, items=dict.fromkeys(forms, setup.batch))


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
