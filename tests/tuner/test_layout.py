"""How sizes are cut, and how many parameters an adapter trains: worked counts."""

from __future__ import annotations

import pytest

from aurora_vl.tuner.counting import count_adapter_parameters
from aurora_vl.tuner.layout import BlockLayout, block_width
from aurora_vl.tuner.targets import config_widths, sharing_group, square_widths

VISION = [(768, 2304), (768, 768), (768, 3072), (3072, 768)] * 12
TEXT = [(768, 768)] * 6 * 12
LARGE = [(1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024)] * 24
LARGE_TEXT = ([(768, 768)] * 4 + [(1024, 768)] * 2) * 12


@pytest.mark.parametrize(
    ("size", "listed", "expected"),
    [
        (3072, [768], 768),
        (3072, [1024, 768], 1024),
        (2304, [1024, 768], 768),
        (1000, [1024, 768], 1000),
        (96, [48, 32], 48),
        (64, [48, 32], 32),
        (7, [], 7),
    ],
)
def test_largest_listed_width_that_divides(size: int, listed: list[int], expected: int) -> None:
    assert block_width(size, listed) == expected


def test_blocks_of_known_maps() -> None:
    assert BlockLayout.of(768, 2304, [768]) == BlockLayout(768, 768, 1, 3)
    assert BlockLayout.of(768, 3072, [768], interleave=True) == BlockLayout(768, 768, 1, 4, True)
    assert BlockLayout.of(3072, 768, [768], interleave=True) == BlockLayout(768, 768, 4, 1, True)
    assert BlockLayout.of(4096, 1024, [4096]) == BlockLayout(4096, 1024, 1, 1)
    # Nothing to interleave in a single block, and no released form where both sides are cut.
    assert not BlockLayout.of(768, 768, [768], interleave=True).interleaved
    assert not BlockLayout.of(3072, 3072, [768], interleave=True).interleaved


def test_record_goes_round() -> None:
    layout = BlockLayout.of(3072, 768, [768], interleave=True)
    assert BlockLayout.from_record(layout.to_record()) == layout
    assert layout.features == (3072, 768)
    assert layout.factors == ("aurora_U_768", "aurora_V_768")
    grouped = layout.within("text")
    assert BlockLayout.from_record(grouped.to_record()) == grouped
    assert grouped.factors == ("aurora_U_text_768", "aurora_V_text_768")


@pytest.mark.parametrize(
    ("core", "r", "gqt", "expected"),
    [
        ("cp", 32, "off", 56_096),
        ("cp", 64, "off", 112_192),
        ("cp", 32, "released", 56_096 + 36_864),
        ("tucker", 32, "off", 88_832),
        ("tucker", 32, "released", 125_696),
        ("tucker", 64, "off", 374_272),
        ("tucker", 64, "released", 411_136),
        ("cp", 32, "gated", 56_096 + 18_432),
    ],
)
def test_blip_base(core: str, r: int, gqt: str, expected: int) -> None:
    count = count_adapter_parameters(
        VISION + TEXT, r=r, core=core, listed_widths=[768], gate_widths=[768] * 12, gqt=gqt
    )
    assert count.modes == 216 * r
    assert count.total == expected


def test_vit_large_beside_bert_base() -> None:
    count = count_adapter_parameters(LARGE + LARGE_TEXT, r=32, listed_widths=[1024, 768])
    # U and V of both widths. 3072 is cut by 1024 (3), 4096 by 1024 (4): 12 blocks a vision layer.
    assert count.factors == 32 * (1024 + 768 + 1024 + 768)
    assert count.modes == 32 * (24 * 12 + 12 * 6)
    assert count.total == 32 * 3584 + 32 + 32 * 360


def test_clip_of_widths_48_and_32() -> None:
    maps = [(48, 48)] * 4 + [(48, 192), (192, 48)] + [(32, 32)] * 3
    count = count_adapter_parameters(maps, r=4, listed_widths=[48, 32])
    assert count.factors == 4 * (48 + 32) * 2
    assert count.modes == 4 * (4 + 4 + 4 + 3)
    assert count.total == 640 + 4 + 60


def test_grouped_query_language_model() -> None:
    # 4096 -> 1024 keys read U_4096 and write V_1024.
    maps = [(4096, 4096), (4096, 1024), (4096, 1024)] * 32
    count = count_adapter_parameters(maps, r=16, core="tucker", listed_widths=[4096])
    assert count.factors == 16 * (4096 + 4096 + 1024)
    assert count.total == 16 * 9216 + 16**3 + 16 * 96


@pytest.mark.parametrize(
    ("sharing", "factors"),
    [
        ("model", 32 * (768 + 768)),
        ("modality", 3 * 32 * (768 + 768)),
        ("layer", 120 * 32 * (768 + 768)),  # a LoRA on the same 120 maps, cut as they are
    ],
)
def test_who_shares_on_blip_base(sharing: str, factors: int) -> None:
    vision = [f"vision_model.encoder.layers.{n}.{m}" for n in range(12) for m in range(4)]
    text = [
        f"text_encoder.encoder.layer.{n}.{part}.self.{m}"
        for n in range(12)
        for part in ("attention", "crossattention")
        for m in ("query", "key", "value")
    ]
    groups = [sharing_group(key, sharing) for key in vision + text]
    count = count_adapter_parameters(VISION + TEXT, r=32, listed_widths=[768], groups=groups)
    assert (count.factors, count.core, count.modes) == (factors, 32, 216 * 32)


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("vision_model.encoder.layers.0.mlp.fc1", "vision"),
        ("text_encoder.encoder.layer.0.attention.self.query", "text"),
        ("text_decoder.bert.encoder.layer.0.attention.self.query", "text"),
        ("text_decoder.bert.encoder.layer.0.crossattention.self.key", "fusion"),
        ("decoder.layers.1.encoder_attn.k_proj", "fusion"),
        ("model.layers.0.self_attn.q_proj", "text"),
    ],
)
def test_modalities(key: str, group: str) -> None:
    assert sharing_group(key, "modality") == group


def test_gates_alone_have_no_factors() -> None:
    assert count_adapter_parameters([], r=8, gate_widths=[10, 10]).total == 80


def test_widths_of_a_nested_config() -> None:
    config = {
        "model_type": "blip",
        "hidden_size": None,
        "text_config": {"hidden_size": 768, "d_model": True},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096},
    }
    assert config_widths(config) == [1024, 768]


def test_widths_without_a_config() -> None:
    assert square_widths([(768, 2304), (768, 768), (3072, 768)]) == [768]
    assert square_widths([(10, 20), (20, 2)]) == []
