"""`aurora convert`: original BLIP checkpoints and hub folders to a folder of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aurora_vl.cli.options import Quiet, Verbose, home_path


def convert(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            show_default=False,
            help="A .pth file of BLIP's authors, or a folder or hub id of transformers' BLIP.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            parser=home_path, metavar="OUT", show_default=False, help="The folder to write."
        ),
    ],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|HUB_ID",
            show_default=False,
            help="The tokenizer of bert-base-uncased; by default it is fetched from the hub.",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            show_default=False,
            help="Fit the positions to pictures of this size along a side.",
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write a BLIP checkpoint as a folder that recipes and transformers can load.

    No code in the checkpoint is executed. Momentum copies and queues are left out.
    """
    from aurora_vl.backbones.families import convert

    done = convert(checkpoint, out, tokenizer=tokenizer, image_size=image_size)
    vision, text = done.config.vision_config, done.config.text_config
    for note in done.notes:
        print(note)
    print(
        f"vision {vision.hidden_size} wide, {vision.num_hidden_layers} layers, "
        f"{vision.num_attention_heads} heads, {vision.image_size} pixels; "
        f"text {text.hidden_size} wide, {text.num_hidden_layers} layers, "
        f"{text.num_attention_heads} heads, {text.vocab_size:,} words"
    )
    print(f"{done.folder}: {done.numbers:,} parameters, for {' and '.join(done.tasks)}")
