"""Writes an adapter as a standard PEFT LoRA, from the adapter's folder alone.

A block's update V M U^T is a product of two thin matrices, so a LoRA holds it exactly: the inner
side is the rank, or a multiple of it where a map is cut into blocks on both sides. Query gates are
no linear maps and are refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from re import escape
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import aurora_vl.tuner.functional as functional
from aurora_vl.errors import UserError
from aurora_vl.tuner.config import AuroraConfig, AuroraPeftType
from aurora_vl.tuner.gqt import GATE_NAMES
from aurora_vl.tuner.layout import BlockLayout

_CONFIG = "adapter_config.json"
_TOP, _INNER, _ROWS = "base_model.", "base_model.model.", ".aurora_P"
_KINDS = {  # of what is read from adapter_config.json whatever the method
    "auto_mapping": (dict, "an object"),
    "base_model_name_or_path": (str, "a text"),
    "target_blocks": (dict, "an object"),
}
_BIAS = {"none": "none", "all": "all", "aurora_only": "lora_only"}


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """What an adapter's folder holds.

    Attributes:
        folder: where it was read.
        config: adapter_config.json.
        tensors: adapter_model.safetensors, by name.
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def base(self) -> str | None:
        """The model it was trained on, as the adapter names it."""
        return self.config.get("base_model_name_or_path")


@dataclass(frozen=True, slots=True)
class LoraSummary:
    """What was written.

    Attributes:
        base: the model it is for, as adapter_config.json names it.
        maps: number of linear maps adapted.
        ranks: the different ranks, smallest first.
        parameters: how many the file holds, heads included.
    """

    base: str | None
    maps: int
    ranks: tuple[int, ...]
    parameters: int


def read_adapter(folder: Path) -> AdapterFiles:
    """Read an adapter's two files.

    Raises:
        UserError: the folder or a file is absent or cannot be read, or a setting is of
            a wrong kind.
    """
    if not folder.is_dir():
        raise UserError(
            f"the adapter folder {folder} does not exist; give the folder that train wrote."
        )
    path = folder / _CONFIG
    for file in (path, folder / SAFETENSORS_WEIGHTS_NAME):
        if not file.is_file():
            raise UserError(
                f"{folder} is no adapter: it lacks {file.name}; give the folder that train wrote."
            )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"the adapter in {folder} cannot be read ({error}); train or fetch it again."
        ) from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no settings; train or fetch the adapter again.")
    for key, (kind, wanted) in _KINDS.items():
        value = config.get(key)
        if value is not None and not isinstance(value, kind):
            raise UserError(
                f"{path}: {key} must be {wanted}, but is {value!r}; train or fetch the adapter "
                "again."
            )
    return AdapterFiles(folder, config, tensors)


def refuse_gates(adapter: AdapterFiles) -> None:
    """Refuse an adapter with query gates.

    Raises:
        UserError: it has them; the sentence names the way out.
    """
    names = tuple(GATE_NAMES["released"])
    if any(key.endswith(names) for key in adapter.tensors):
        gqt = adapter.config.get("gqt", "released")
        raise UserError(
            f"the adapter {adapter.folder} has query gates (gqt: {gqt}), which are no linear maps "
            "and fit neither a LoRA nor merged weights; train again with adapter.gqt=off, then "
            "export."
        )


def write_lora(adapter: AdapterFiles, out: Path, *, base: str | None = None) -> LoraSummary:
    """Write adapter_config.json, adapter_model.safetensors and README.md of the equal LoRA.

    The products are computed and kept in float64, so that nothing is rounded; PEFT gives them the
    base model's type when it loads them. The scaling alpha / r is 1 everywhere: the adapter's own
    is inside the factors.

    Args:
        adapter: what was trained.
        out: an existing folder.
        base: what to record as the base model; what the adapter says if left out.

    Raises:
        UserError: it is no Aurora adapter, its configuration is none or does not record a trained
            map, it has query gates, or lacks tensors.
    """
    kind = adapter.config.get("peft_type")
    if kind != AuroraPeftType.AURORA:
        raise UserError(
            f"the adapter {adapter.folder} is of type {kind}; only Aurora adapters are exported to "
            "LoRA."
        )
    refuse_gates(adapter)
    config = _config(adapter)
    layouts = _layouts(adapter)
    ranks: dict[str, int] = {}
    tensors = {key: value for key, value in adapter.tensors.items() if ".aurora_" not in key}
    for name, layout in layouts.items():
        down, up = _factors(adapter, name, layout)
        up = up * config.scale
        ranks[name] = down.shape[0]
        tensors[f"{_INNER}{name}.lora_A.weight"] = down.contiguous()
        tensors[f"{_INNER}{name}.lora_B.weight"] = up.contiguous()
    base = base or adapter.base
    _write_config(config, ranks, base, out)
    save_file(tensors, out / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    (out / "README.md").write_text(_card(base), encoding="utf-8")
    parameters = sum(tensor.numel() for tensor in tensors.values())
    return LoraSummary(base, len(ranks), tuple(sorted(set(ranks.values()))), parameters)


def _config(adapter: AdapterFiles) -> AuroraConfig:
    known = {field.name for field in fields(AuroraConfig)}
    try:
        return AuroraConfig(**{k: v for k, v in adapter.config.items() if k in known})
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{adapter.folder / _CONFIG}: {str(error).rstrip('.')}; train or fetch the adapter "
            "again."
        ) from None


def _layouts(adapter: AdapterFiles) -> dict[str, BlockLayout]:
    records = adapter.config.get("target_blocks")
    try:
        layouts = {name: BlockLayout.from_record(record) for name, record in records.items()}  # type: ignore[union-attr]
    except (AttributeError, TypeError):
        layouts = {}
    trained = {
        key.removeprefix(_INNER).removesuffix(_ROWS)
        for key in adapter.tensors
        if key.endswith(_ROWS)
    }
    left_over = sorted(trained - layouts.keys())
    if left_over or not layouts:
        absent = left_over[0] if layouts else "the adapted maps"
        raise UserError(
            f"{adapter.folder / _CONFIG} does not record {absent} (target_blocks); load the "
            "adapter over its model and save it again."
        )
    return layouts


def _factors(adapter: AdapterFiles, name: str, layout: BlockLayout) -> tuple[Tensor, Tensor]:
    """The map's (down, up) in float64, without the adapter's scaling."""
    keys = (
        *(f"{_TOP}{factor}" for factor in layout.factors),
        f"{_TOP}aurora_core",
        f"{_INNER}{name}{_ROWS}",
    )
    absent = [key for key in keys if key not in adapter.tensors]
    if absent:
        raise UserError(
            f"{adapter.folder / SAFETENSORS_WEIGHTS_NAME} lacks {absent[0]}; train or fetch the "
            "adapter again."
        )
    u, v, core, modes = (adapter.tensors[key].to(torch.float64) for key in keys)
    return functional.low_rank_factors(u, v, core, modes, interleaved=layout.interleaved)


def _write_config(
    trained: AuroraConfig, ranks: Mapping[str, int], base: str | None, out: Path
) -> None:
    common = Counter(ranks.values()).most_common(1)[0][0]
    # PEFT reads these keys as regular expressions for the end of a name.
    others = {f"^{escape(name)}": rank for name, rank in ranks.items() if rank != common}
    config = LoraConfig(
        r=common,
        lora_alpha=common,
        rank_pattern=others,
        alpha_pattern=others,
        target_modules=list(ranks),
        modules_to_save=trained.modules_to_save,
        bias=_BIAS[trained.bias],
        task_type=trained.task_type,
        base_model_name_or_path=base,
        revision=trained.revision,
        inference_mode=True,
    )
    mapping = trained.auto_mapping or {}
    ours = str(mapping.get("parent_library")).partition(".")[0] == __name__.partition(".")[0]
    config.save_pretrained(str(out), auto_mapping_dict=None if ours else mapping or None)
    path = out / _CONFIG
    written = json.loads(path.read_text(encoding="utf-8"))
    written["target_modules"] = list(ranks)  # a set until here: in the model's order instead
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _card(base: str | None) -> str:
    lines = ["---", *([f"base_model: {json.dumps(base)}"] if base else []), "library_name: peft"]
    lines += ["tags: [lora, aurora]", "---", "", "# LoRA adapter", ""]
    lines += [
        "Exported by `aurora export` from an Aurora adapter; both give the same outputs. Load",
        f"it over {base or 'the model it was trained on'} with PEFT alone:",
        "",
        "```python",
        "from peft import PeftModel",
        "",
        "model = PeftModel.from_pretrained(base_model, folder)",
        "```",
    ]
    return "\n".join(lines) + "\n"
