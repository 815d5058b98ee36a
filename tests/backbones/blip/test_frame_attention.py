"""Videos in retrieval: their features, and the frames a text looks harder at."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from in_use import by_part
from tiny_blip import SIZE, batch, tiny_model
from torch import Tensor

from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.backbones.blip.frame_attention import frame_key_scale
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask

FRAMES = 3


@pytest.fixture
def model() -> Any:
    return tiny_model()


@pytest.fixture
def videos() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (4, FRAMES, 3, SIZE, SIZE)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def losses(model: Any, pixels: Tensor, **settings: Any) -> dict[str, Tensor]:
    settings = {"queue": 3, "momentum": 0.9, "ramp_steps": 0, **settings}
    task = RetrievalTask(BlipDualEncoder(model), RetrievalSettings(**settings)).train()
    return task(**by_part(batch([0, 1, 2, 3]) | {"pixel_values": pixels}))


def test_the_scale_by_hand() -> None:
    similarity = torch.tensor([[0.4, -0.8], [0.1, 0.1]], dtype=torch.float64)
    scale = frame_key_scale(similarity, 6)
    high = 2 / (1 + torch.tensor(-1.2 / 4, dtype=torch.float64).exp())
    expected = torch.stack([torch.ones(()), high, high, torch.ones(()), 2 - high, 2 - high])
    torch.testing.assert_close(scale, torch.stack([expected, torch.ones_like(expected)]))


def test_the_scale_has_no_gradient_and_needs_whole_frames() -> None:
    similarity = torch.zeros(1, 2, requires_grad=True)
    assert not frame_key_scale(similarity, 4).requires_grad
    with pytest.raises(ValueError, match="5 tokens cannot be cut into 2 frames"):
        frame_key_scale(similarity, 5)


def test_a_video_is_its_frames(model: Any, videos: Tensor) -> None:
    each = [model.vision_model(videos[:, t]) for t in range(FRAMES)]
    first = torch.stack([states[:, 0] for states in each], 1)
    states, features = model.encode_image(videos)
    torch.testing.assert_close(states, torch.cat(each, 1))
    mean = F.normalize(model.vision_proj(first.mean(1)), dim=-1)
    torch.testing.assert_close(features, mean)
    out = model(videos, **{n: batch([0, 1, 2, 3])[n] for n in ("input_ids", "attention_mask")})
    assert out.frame_features is not None
    for t in range(FRAMES):
        torch.testing.assert_close(out.frame_features[:, t], model.encode_image(videos[:, t])[1])


def test_a_video_of_one_frame_is_a_picture(model: Any, videos: Tensor) -> None:
    pictures = losses(model, videos[:, 0])
    one = losses(model, videos[:, :1])
    for name, loss in pictures.items():
        torch.testing.assert_close(one[name], loss)


def test_frames_that_are_alike_are_looked_at_alike(model: Any, videos: Tensor) -> None:
    still = videos[:, :1].expand(-1, FRAMES, -1, -1, -1)
    torch.testing.assert_close(
        losses(model, still)["loss"], losses(model, still, frame_aware=False)["loss"]
    )


@pytest.mark.parametrize("frame_aware", [True, False])
def test_the_order_of_frames_says_nothing(model: Any, videos: Tensor, frame_aware: bool) -> None:
    """A video is a set of frames: backwards it has the same losses (docs/method.md)."""
    torch.testing.assert_close(
        losses(model, videos.flip(1), frame_aware=frame_aware),
        losses(model, videos, frame_aware=frame_aware),
    )


def test_frame_awareness_changes_matching_alone(model: Any, videos: Tensor) -> None:
    aware, plain = losses(model, videos), losses(model, videos, frame_aware=False)
    torch.testing.assert_close(aware["loss_itc"], plain["loss_itc"])
    assert not torch.isclose(aware["loss_itm"], plain["loss_itm"], rtol=1e-4)


def test_true_pairs_are_read_with_their_own_weights(model: Any, videos: Tensor) -> None:
    """The first rows of matching, one pair at a time."""
    seen = []
    handle = model.itm_head.register_forward_hook(lambda _m, _i, out: seen.append(out))
    losses(model, videos)
    handle.remove()
    given = batch([0, 1, 2, 3])
    for row, video in enumerate(videos):
        ids = given["input_ids"][row : row + 1]
        mask = given["attention_mask"][row : row + 1]
        similarity = model.encode_image(video)[1] @ model.encode_text(ids, mask)[1][0]
        weight = FRAMES * (similarity / 4).softmax(0)
        states = [model.vision_model(frame[None]) for frame in video]
        keys = model.cross_keys(torch.cat(states, 1))
        tokens = states[0].shape[1]
        scale = torch.ones(1, FRAMES * tokens, dtype=torch.float64)
        for t in range(FRAMES):
            scale[0, t * tokens + 1 : (t + 1) * tokens] = weight[t]
        torch.testing.assert_close(
            seen[0][row : row + 1], model.match(ids, mask, keys.scaled(scale))
        )
