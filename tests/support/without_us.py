"""transformers' BLIP and PEFT in a process of its own that cannot import our package.

`python -I without_us.py FOLDER` reads FOLDER/job.json and FOLDER/inputs.pt, written by
`run_without_us`, and leaves FOLDER/outputs.pt.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGE = "aurora_vl"
Calls = dict[str, dict[str, Any]]
RETRIEVAL, ANSWERS = "BlipForImageTextRetrieval", "BlipForQuestionAnswering"


class _Blocker:
    """Is asked for every module before anybody else, and says that ours is not there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == PACKAGE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def run_without_us(
    folder: Path, model: str, backbone: Path, calls: Calls, adapter: Path | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """As `call_theirs`, in a process without us; `folder` is for what goes to and fro."""
    folder.mkdir(exist_ok=True)
    job = {"model": model, "backbone": str(backbone), "adapter": adapter and str(adapter)}
    (folder / "job.json").write_text(json.dumps(job))
    torch.save(calls, folder / "inputs.pt")
    command = [sys.executable, "-I", __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs, faults = torch.load(folder / "outputs.pt")
    return outputs, faults


@torch.no_grad()
def call_theirs(
    model: str, backbone: Path, calls: Calls, adapter: Path | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Call a model of transformers in float64, with a PEFT adapter over it or none.

    Args:
        model: `RETRIEVAL` or `ANSWERS`.
        backbone: a folder that class loads.
        calls: keyword arguments by call; `ANSWERS` generates ids, or gives
            the loss of `labels`.
        adapter: an adapter's folder.

    Returns:
        The output of every call, and the keys that were missing or unexpected on loading.
    """
    import transformers
    from peft import PeftModel

    made, report = getattr(transformers, model).from_pretrained(backbone, output_loading_info=True)
    made = made.double().eval()
    if adapter:
        made = PeftModel.from_pretrained(made, str(adapter)).eval()
    if model == RETRIEVAL:
        outputs = {name: made(**given).itm_score for name, given in calls.items()}
    else:
        outputs = {
            name: made(**given).loss if "labels" in given else made.generate(**given)
            for name, given in calls.items()
        }
    return outputs, sorted({*report["missing_keys"], *report["unexpected_keys"]})


def _work(folder: Path) -> None:
    sys.meta_path.insert(0, _Blocker())  # type: ignore[arg-type]
    try:
        importlib.import_module(PACKAGE)
    except ModuleNotFoundError:
        pass
    else:
        raise SystemExit("the package can be imported")
    torch.set_num_threads(1)
    warnings.filterwarnings("error", "Found missing adapter keys")
    job = json.loads((folder / "job.json").read_text())
    torch.save(call_theirs(**job, calls=torch.load(folder / "inputs.pt")), folder / "outputs.pt")


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
