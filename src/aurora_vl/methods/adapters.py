"""Methods that put something small beside frozen weights: Aurora, PEFT's own, bottlenecks.

All adapt the same maps (Aurora's default targets) unless their idea is about other modules. Sizes
are PEFT's defaults or their papers' usual ones; on the mini foundation, of width 128, ranks are
smaller. Every update starts at zero where the method has such a start.
"""

from __future__ import annotations

from peft import (
    BeftConfig,
    C3AConfig,
    FourierFTConfig,
    IA3Config,
    LNTuningConfig,
    LoKrConfig,
    LoraConfig,
    PeftConfig,
    RandLoraConfig,
    UniLoraConfig,
    VBLoRAConfig,
    VeraConfig,
)

from aurora_vl.methods.base import Method, Request
from aurora_vl.methods.bottleneck import BottleneckConfig, BottleneckPeftType
from aurora_vl.tuner.config import AuroraConfig, AuroraPeftType

_BOTTLENECK = BottleneckPeftType.BOTTLENECK.value


def _aurora(on: Request) -> PeftConfig:
    given = {"r": on.rank, "dropout": on.dropout, **on.switches.adapter()}
    return on.config(AuroraConfig, target_modules=on.options.get("target_modules"), **given)


def _lora(on: Request) -> PeftConfig:
    return on.config(LoraConfig, r=on.rank, lora_alpha=2 * on.rank, lora_dropout=on.dropout)


def _dora(on: Request) -> PeftConfig:
    given = {"r": on.rank, "lora_alpha": 2 * on.rank, "lora_dropout": on.dropout}
    return on.config(LoraConfig, use_dora=True, **given)


def _lokr(on: Request) -> PeftConfig:
    return on.config(LoKrConfig, r=on.rank, alpha=on.rank)


def _ia3(on: Request) -> PeftConfig:
    """Scales of outputs, and of what the second map of an MLP reads."""
    return on.config(IA3Config, feedforward_modules=on.modules.second_of_mlp)


def _vera(on: Request) -> PeftConfig:
    """The frozen projections are drawn again from the seed, as published, not saved."""
    given = {"r": on.rank, "vera_dropout": on.dropout, "projection_prng_key": on.seed}
    return on.config(VeraConfig, save_projection=False, **given)


def _vb_lora(on: Request) -> PeftConfig:
    length = on.divisor(256)
    given = {"r": on.rank, "vblora_dropout": on.dropout}
    return on.config(VBLoRAConfig, vector_length=length, num_vectors=min(256, length), **given)


def _uni_lora(on: Request) -> PeftConfig:
    """As many parameters as rows of rank-r factors of width `divisor` have, whatever the model.

    23,040 in BLIP-base at rank 4, the size used on RoBERTa in its paper.
    """
    given = {"r": on.rank, "unilora_dropout": on.dropout, "proj_seed": on.seed}
    length = 30 * on.divisor(768)
    return on.config(UniLoraConfig, theta_d_length=length, **given)


def _randlora(on: Request) -> PeftConfig:
    given = {"r": on.rank, "randlora_alpha": 20 * on.rank, "randlora_dropout": on.dropout}
    return on.config(RandLoraConfig, save_projection=False, projection_prng_key=on.seed, **given)


def _fourierft(on: Request) -> PeftConfig:
    """Starts at zero; the scale gives one coefficient the same effect in models of any width.

    1000 coefficients a map and a scale of 150 at width 768, PEFT's advice.
    """
    share = on.divisor(768) / 768
    given = {"n_frequency": max(1, round(1000 * share)), "scaling": 150.0 * share**2}
    return on.config(FourierFTConfig, init_weights=True, random_loc_seed=on.seed, **given)


def _c3a(on: Request) -> PeftConfig:
    return on.config(C3AConfig, block_size=on.divisor(256), init_weights=True)


def _ln_tuning(on: Request) -> PeftConfig:
    return on.config(LNTuningConfig, target_modules=list(on.modules.norms))


def _bitfit(on: Request) -> PeftConfig:
    """The bias of every linear map of the encoders and the decoder."""
    return on.config(BeftConfig, target_modules=on.modules.all_maps)


def _bottleneck(on: Request) -> PeftConfig:
    return on.config(BottleneckConfig, r=on.rank, dropout=on.dropout, target_modules=None)


def _uniadapter(on: Request) -> PeftConfig:
    given = {"r": on.rank, "dropout": on.dropout, "shared": True}
    return on.config(BottleneckConfig, target_modules=None, **given)


ADAPTERS = (
    Method(
        *("aurora", "Aurora", (1e-2, 1e-4), (32, 32), _aurora),
        output_factors="aurora_V",
        registered=AuroraPeftType.AURORA.value,
    ),
    Method("lora", "LoRA", (5e-3, 1e-4), (4, 8), _lora, output_factors="lora_B"),
    Method("dora", "DoRA", (5e-3, 1e-4), (4, 8), _dora, output_factors="lora_B"),
    Method("lokr", "LoKr", (1e-2, 1e-3), (8, 8), _lokr, dropout=False),
    Method("ia3", "IA3", (2e-2, 5e-3), None, _ia3, dropout=False),
    Method("vera", "VeRA", (8e-2, 5e-3), (256, 256), _vera),
    Method("vb-lora", "VB-LoRA", (1e-2, 1e-3), (4, 4), _vb_lora, same_start=False),
    Method("uni-lora", "Uni-LoRA", (4e-2, 1e-3), (4, 4), _uni_lora, same_start=False),
    Method("randlora", "RandLoRA", (1.25e-3, 1e-4), (32, 32), _randlora),
    Method("fourierft", "FourierFT", (0.8, 1e-2), None, _fourierft, dropout=False),
    Method("c3a", "C3A", (0.16, 1e-3), None, _c3a, dropout=False),
    Method("ln-tuning", "LN tuning", (1e-2, 1e-3), None, _ln_tuning, dropout=False),
    Method("bitfit", "BitFit", (4e-2, 1e-3), None, _bitfit, dropout=False),
    Method(
        *("bottleneck", "Bottleneck adapters", (1.2e-2, 1e-4), (16, 64), _bottleneck),
        registered=_BOTTLENECK,
    ),
    Method(
        *("uniadapter", "UniAdapter", (2.4e-2, 1e-4), (16, 128), _uniadapter),
        registered=_BOTTLENECK,
    ),
)
