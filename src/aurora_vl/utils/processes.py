"""What the launcher (torchrun) says of the processes it started.

It is known before they have found each other, and without torch, which the command line imports
late so that help answers fast. `utils.distributed` is for afterwards.
"""

from __future__ import annotations

import os


def launched_processes() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the process that speaks and writes."""
    return os.environ.get("RANK", "0") == "0"
