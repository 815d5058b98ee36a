from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aurora_vl.backbones.blip.preparation import IMAGE_MEAN, IMAGE_STD
from aurora_vl.data.transforms import (
    Augment,
    ImageTransform,
    draw_crop,
    to_model_input,
)
from aurora_vl.errors import UserError


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    y = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


def test_evaluation_resizes_the_whole_picture_without_cropping() -> None:
    image = gradient(60, 30)
    pixels = ImageTransform(16).image(image)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 16, 16)
    assert pixels.is_contiguous()
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC))
    assert torch.equal(pixels, torch.from_numpy(expected.copy()).permute(2, 0, 1))
    assert pixels[0, 8, 15] > 240
    assert pixels[0, 8, 0] < 15
    assert pixels[1, 15, 8] > 240


def test_a_scale_without_a_generator_cuts_nothing() -> None:
    image = gradient(60, 30)
    assert torch.equal(ImageTransform(16, (0.5, 1.0)).image(image), ImageTransform(16).image(image))


def test_a_crop_is_reproducible_and_follows_the_generator() -> None:
    transform = ImageTransform(16, (0.3, 0.6))
    image = gradient(60, 30)
    first, again, other = (
        transform.image(image, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_frames_may_share_one_box() -> None:
    transform = ImageTransform(16, (0.3, 0.6))
    box = transform.draw(60, 30, np.random.default_rng(0))
    assert box is not None
    frame = gradient(60, 30)
    expected = ImageTransform(16).image(frame.crop(box))
    assert torch.equal(transform.apply(frame, box), expected)


@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.05, 1.0), st.integers(0, 2**32))
def test_a_box_lies_inside_the_picture(width: int, height: int, low: float, seed: int) -> None:
    left, upper, right, lower = draw_crop(width, height, (low, 1.0), np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height


def test_boxes_have_the_share_and_the_aspect_asked_for() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([draw_crop(400, 300, (0.5, 0.8), rng) for _ in range(500)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share = width * height / (400 * 300)
    assert 0.49 < share.min() < 0.55
    assert 0.75 < share.max() < 0.81
    aspect = width / height
    assert aspect.min() > 0.74
    assert aspect.max() < 1.35
    assert (boxes[:, 0] == 0).mean() < 0.2  # they move about


def test_a_very_long_picture_gets_its_centre() -> None:
    assert draw_crop(1000, 10, (0.9, 1.0), np.random.default_rng(0)) == (493, 0, 506, 10)
    assert draw_crop(10, 1000, (0.9, 1.0), np.random.default_rng(0)) == (0, 493, 10, 506)
    assert draw_crop(1, 1, (0.5, 1.0), np.random.default_rng(0)) == (0, 0, 1, 1)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.9, 0.5), (0.5, 1.1)])
def test_a_wrong_scale_or_size_is_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="crop scale"):
        ImageTransform(16, scale)
    with pytest.raises(UserError, match="image size 0"):
        ImageTransform(0)


def test_model_input_is_normalised_by_channel() -> None:
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    pixels[1] = 255
    values = to_model_input(pixels, IMAGE_MEAN, IMAGE_STD)
    assert values.dtype == torch.float32
    for channel in range(3):
        black, white = values[0, channel, 0, 0].item(), values[1, channel, 0, 0].item()
        assert black == pytest.approx(-IMAGE_MEAN[channel] / IMAGE_STD[channel], abs=1e-6)
        assert white == pytest.approx((1 - IMAGE_MEAN[channel]) / IMAGE_STD[channel], abs=1e-6)


def test_model_input_takes_videos_and_other_types() -> None:
    video = torch.randint(0, 256, (2, 5, 3, 4, 4), dtype=torch.uint8)
    values = to_model_input(video, IMAGE_MEAN, IMAGE_STD, dtype=torch.bfloat16)
    assert values.shape == video.shape
    assert values.dtype == torch.bfloat16
    assert torch.equal(
        to_model_input(video, IMAGE_MEAN, IMAGE_STD)[1, 3],
        to_model_input(video[1, 3:4], IMAGE_MEAN, IMAGE_STD)[0],
    )


def test_augmentation_comes_before_normalisation_and_needs_seeds() -> None:
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    augment, seeds = Augment("safe"), torch.arange(4)
    expected = augment(pixels.float() / 255, seeds)
    mean, std = torch.tensor(IMAGE_MEAN).view(3, 1, 1), torch.tensor(IMAGE_STD).view(3, 1, 1)
    values = to_model_input(pixels, IMAGE_MEAN, IMAGE_STD, augment=augment, seeds=seeds)
    torch.testing.assert_close(values, (expected - mean) / std)
    assert not torch.equal(values, to_model_input(pixels, IMAGE_MEAN, IMAGE_STD))
    with pytest.raises(ValueError, match="seeds"):
        to_model_input(pixels, IMAGE_MEAN, IMAGE_STD, augment=augment)
