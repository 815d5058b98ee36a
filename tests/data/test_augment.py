from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from aurora_vl.data import augment as module
from aurora_vl.data.augment import Augment
from aurora_vl.errors import UserError


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def operate(name: str, pixels: Tensor, amount: float) -> Tensor:
    """Apply one operation to (B, 3, H, W) as a batch of one-frame videos."""
    amounts = torch.full((len(pixels),), amount)
    return module._OPERATIONS[name](pixels.unsqueeze(1), amounts).squeeze(1).clamp(0, 1)


@pytest.mark.parametrize("level", ["safe", "full"])
@pytest.mark.parametrize("shape", [(32, 3, 20, 28), (8, 3, 3, 20, 28)])
def test_shape_range_and_type_stay(level: module.Level, shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    before = pixels.clone()
    result = Augment(level)(pixels, torch.arange(shape[0]))
    assert result.shape == shape
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1
    assert torch.equal(pixels, before)  # nothing is changed in place


@pytest.mark.parametrize("level", ["safe", "full"])
def test_an_item_depends_on_its_seed_alone(level: module.Level) -> None:
    pixels, seeds = noise(40, 3, 16, 16), torch.arange(40) * 7919
    augment = Augment(level)
    together = augment(pixels, seeds)
    torch.manual_seed(1)  # global generators play no part
    np.random.seed(1)
    alone = torch.cat([augment(pixels[i : i + 1], seeds[i : i + 1]) for i in range(40)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    shuffled = augment(pixels[order], seeds[order])
    torch.testing.assert_close(shuffled, together[order], rtol=0, atol=1e-6)
    assert torch.equal(augment(pixels, seeds), together)


@pytest.mark.parametrize("level", ["safe", "full"])
def test_different_seeds_give_different_pictures(level: module.Level) -> None:
    pixels = noise(1, 3, 16, 16).expand(60, -1, -1, -1)
    result = Augment(level)(pixels, torch.arange(60))
    distinct = {item.numpy().tobytes() for item in result}
    assert len(distinct) > 12
    unchanged = sum(torch.equal(item, pixels[0]) for item in result)
    assert 3 <= unchanged <= 45  # each operation is skipped half of the time


@pytest.mark.parametrize("level", ["safe", "full"])
def test_the_frames_of_a_video_get_the_same_change(level: module.Level) -> None:
    still = noise(30, 1, 3, 16, 16).expand(-1, 4, -1, -1, -1)
    augment, seeds = Augment(level), torch.arange(30)
    result = augment(still, seeds)
    for frame in range(1, 4):
        torch.testing.assert_close(result[:, frame], result[:, 0], rtol=0, atol=1e-6)
    if level == "safe":  # an equalised video has more pixels in its histogram than one frame
        as_pictures = augment(still[:, 0], seeds)
        torch.testing.assert_close(result[:, 0], as_pictures, rtol=0, atol=1e-5)


def test_tone_follows_the_whole_video_and_not_the_frame() -> None:
    dark, light = torch.full((1, 3, 8, 8), 0.2), torch.full((1, 3, 8, 8), 0.6)
    video = torch.stack([dark, light], dim=1)  # (1, 2, 3, 8, 8)
    stretched = module._OPERATIONS["autocontrast"](video, torch.zeros(1))
    torch.testing.assert_close(stretched[:, 0], torch.zeros_like(dark))
    torch.testing.assert_close(stretched[:, 1], torch.ones_like(light), atol=1e-4, rtol=0)


def test_none_changes_nothing_and_needs_no_kornia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    pixels = noise(4, 3, 8, 8)
    assert torch.equal(Augment("none")(pixels, torch.arange(4)), pixels)


def test_without_kornia_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(UserError, match=r"kornia: install aurora-vl\[train\]"):
        Augment("safe")


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(UserError, match="'strong' is unknown: choose one of none, safe, full"):
        Augment("strong")  # type: ignore[arg-type]


def test_importing_the_data_layer_does_not_import_kornia() -> None:
    code = (
        "import sys; import aurora_vl.data.transforms, aurora_vl.data.collate; "
        "import aurora_vl.data.check, aurora_vl.data.readers; "
        "sys.exit(int(bool({'kornia', 'torchvision'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_safe_keeps_sides_and_colours() -> None:
    """A red disc on the left of a blue ground stays left, red and about as large."""
    picture = torch.zeros(3, 32, 32)
    picture[2] = 0.8
    picture[:, 8:24, 4:12] = torch.tensor([0.8, 0.0, 0.0]).view(3, 1, 1)
    result = Augment("safe")(picture.expand(200, -1, -1, -1), torch.arange(200))
    red = (result[:, 0] > 0.45) & (result[:, 2] < 0.3)
    assert (red.sum((1, 2)) > 90).all()  # of 128
    assert (red[:, :, :16].sum((1, 2)) > 90).all()
    assert not red[:, :, 16:].any()
    hue_shift = (result[:, 1] - torch.minimum(result[:, 0], result[:, 2])).amax((1, 2))
    assert (hue_shift < 0.2).all()  # nothing turns green


def test_full_mirrors_half_of_the_items() -> None:
    picture = torch.zeros(3, 32, 32)
    picture[0, 8:24, 2:10] = 1.0
    result = Augment("full")(picture.expand(300, -1, -1, -1), torch.arange(300))
    on_the_right = result[:, 0, :, 16:].sum((1, 2)) > result[:, 0, :, :16].sum((1, 2))
    assert 0.4 < on_the_right.float().mean() < 0.6


def test_translations_move_by_their_share() -> None:
    pixels = torch.zeros(1, 3, 20, 20)
    pixels[..., 10, 10] = 1.0
    right = operate("translate_x", pixels, 0.1)
    assert right[0, 0].argmax() == 10 * 20 + 12
    assert right[0, 0, 0, 0] == pytest.approx(128 / 255)  # what was outside is grey
    down = operate("translate_y", pixels, -0.1)
    assert down[0, 0, :18].argmax() == 8 * 20 + 10


def test_geometry_keeps_the_centre_and_moves_the_rest() -> None:
    pixels = torch.zeros(1, 3, 41, 41)
    pixels[..., 20, 20] = 1.0
    pixels[..., 10, 20] = 0.9
    for name, amount, expected in [
        ("shear_x", 0.1, (10, 19)),
        ("shear_y", 0.1, (10, 20)),
        ("rotate", 90.0, (20, 10)),  # counter-clockwise
    ]:
        result = operate(name, pixels, amount)[0, 0]
        assert result[20, 20] == pytest.approx(1.0, abs=1e-3), name
        assert result[expected] == pytest.approx(0.9, abs=1e-3), name


@pytest.mark.parametrize("factor", [0.5, 0.85, 1.3])
def test_tones_agree_with_pillow(factor: float) -> None:
    values = np.random.default_rng(0).integers(0, 200, (24, 24, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    pixels = torch.from_numpy(values).permute(2, 0, 1).unsqueeze(0).float() / 255
    pairs = {
        "brightness": ImageEnhance.Brightness(image).enhance(factor),
        "contrast": ImageEnhance.Contrast(image).enhance(factor),
        "sharpness": ImageEnhance.Sharpness(image).enhance(factor),
        "autocontrast": ImageOps.autocontrast(image),
        "equalize": ImageOps.equalize(image),
    }
    for name, reference in pairs.items():
        ours = operate(name, pixels, factor)[0].permute(1, 2, 0) * 255
        difference = np.abs(ours.numpy() - np.asarray(reference, dtype=np.float32))
        assert difference.max() <= 2.5, name


def test_flat_and_tiny_pictures_pass_unharmed() -> None:
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert torch.equal(operate("autocontrast", flat, 0.0), flat)
    torch.testing.assert_close(operate("equalize", flat, 0.0), flat)
    tiny = noise(50, 3, 2, 1)
    for level in ("safe", "full"):
        result = Augment(level)(tiny, torch.arange(50))
        assert result.shape == tiny.shape
        assert result.isfinite().all()


def test_double_precision_stays_double() -> None:
    result = Augment("full")(noise(30, 3, 16, 16).double(), torch.arange(30))
    assert result.dtype == torch.float64
