"""`aurora export`: an adapter as a PEFT LoRA or as merged weights."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aurora_vl.cli.options import Quiet, Verbose


class Form(StrEnum):
    """What an adapter can be turned into."""

    LORA = "lora"
    MERGED = "merged"


def export(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="The adapter folder that train wrote.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    to: Annotated[
        Form,
        typer.Option(
            "--to", help="A standard PEFT LoRA adapter, or the backbone with merged weights."
        ),
    ],
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="X",
            help="mini, a folder or a hub id; by default what the adapter was trained on. "
            "For lora it is only recorded.",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            min=1,
            help="For merged, pixels along a side; by default as trained, by the recipe.yaml "
            "beside the adapter, else the backbone's.",
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Turn an adapter trained with adapter.gqt=off into what needs none of our code."""
    from transformers.utils.logging import disable_progress_bar

    from aurora_vl.errors import UserError
    from aurora_vl.inference.export import export_lora, export_merged

    disable_progress_bar()  # one of its own for every file, under -q as well
    if to is Form.MERGED:
        merged = export_merged(adapter, out, backbone=backbone, image_size=image_size)
        print(
            f"{out}: {merged.backbone} with merged weights, {merged.parameters:,} parameters, for "
            f"pictures of {merged.image_size} pixels; transformers' {merged.their_class} loads it"
        )
        return
    if image_size is not None:
        raise UserError("--image-size belongs to --to merged; a LoRA adapter has no image size.")
    lora, task = export_lora(adapter, out, backbone=backbone)
    ranks = " to ".join(str(rank) for rank in dict.fromkeys((lora.ranks[0], lora.ranks[-1])))
    print(
        f"{out}: a PEFT LoRA adapter of rank {ranks} over {lora.maps} maps, {lora.parameters:,} "
        f"parameters; its base model is {base_in_words(lora.base, task)}"
    )


def base_in_words(base: str | None, task: str) -> str:
    """Say what the base model is, and for the bundled one how others come by it."""
    from aurora_vl.backbones.folders import MINI

    if base is None:
        return "not recorded (--backbone names it)"
    if base != MINI:
        return base
    return (
        'mini, which is inside aurora-vl: write it out with python -c "import aurora_vl as a; '
        f"a.load('mini', task='{task}').save_pretrained('mini'); "
        "a.load_tokenizer('mini').save_pretrained('mini')\", which makes the folder ./mini"
    )
