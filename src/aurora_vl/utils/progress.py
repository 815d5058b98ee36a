"""Progress bars and the console they share with the log: standard error, never standard output.

A bar is drawn on a terminal only, and only where the log shows information; elsewhere nothing is
written, so logs and `--json` stay clean.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aurora_vl.utils.processes import is_main_process

Advance = Callable[[int, int], None]
"""Called with (done, in all)."""

console = Console(stderr=True)


@contextmanager
def progress_bar(label: str, *, shown: bool = True) -> Iterator[Advance]:
    """Show a bar while the block runs.

    Args:
        label: what is being done, such as "tuning".
        shown: False for no bar even on a terminal.

    Yields:
        what to call with the number done and the number in all.
    """
    informed = logging.getLogger("aurora_vl").isEnabledFor(logging.INFO)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (shown and informed and console.is_terminal and is_main_process()),
    ) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
