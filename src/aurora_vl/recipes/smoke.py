"""What `--smoke` makes of a recipe: the same code from files to scores, in seconds.

The mini foundation takes the backbone's place and a few generated files of the recipe's own layout
the data's. What the recipe says about adapter, losses, augmentation and evaluation stays. The
scores mean nothing, so nothing is written into the recipe's own run folder.
"""

from __future__ import annotations

from aurora_vl.data.synthetic.layouts import LAYOUTS

_SETTINGS = (
    *("backbone=mini", "image_size=null"),
    *("data.kind=world", "data.annotations=null", "data.media=null", "data.visual_genome=null"),
    *("data.world.train=16", "data.world.val=4", "data.world.test=6"),
    *("data.frames=2", "data.limit=null", "data.workers=0", "evaluation.answer_list=null"),
    *("training.epochs=1", "training.batch_size=8", "training.validations=1"),
    "training.output=null",
)


def smoke_settings(kind: object) -> list[str]:
    """Settings that come before those of the command line.

    Args:
        kind: the recipe's `data.kind`; where no world is written in that layout (`jsonl`, `world`),
            the task's usual one is taken.
    """
    layout = [f"data.world.layout={kind}"] if kind in LAYOUTS else []
    return [*_SETTINGS, *layout]
