"""Show that our arithmetic is the released one: recompute every tensor of a golden file.

The file holds inputs and results of the research code in float64; tests/golden/data has a copy
and tests/golden/README.md its rules. Parameters are drawn from their names, so another prefix is
another model, and a file made with it must pass as well.

    python scripts/check_golden.py tests/golden/data/reference_golden.safetensors
    python scripts/check_golden.py FILE --prefix P --write OUT    # our own results, same layout

Exits 0 if every tensor agrees, 1 if one does not or was not checked, 2 if FILE is of no use.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from golden_groups import GROUPS
from golden_model import Fill, Golden

TOLERANCE = 1e-9  # of max abs difference / max abs value; integers must be equal
INPUT = "input"


def relative_error(ours: Tensor, stored: Tensor) -> float:
    """Largest difference over the largest stored value; infinite if they cannot be compared."""
    if ours.shape != stored.shape or ours.is_floating_point() != stored.is_floating_point():
        return float("inf")
    if not stored.is_floating_point():
        return 0.0 if ours.equal(stored) else float("inf")
    if not stored.numel():
        return 0.0
    difference = (ours.double() - stored.double()).abs().max().item()
    if difference == 0.0:
        return 0.0
    size = stored.double().abs().max().item()
    error = difference / size if size else float("inf")
    return error if error == error else float("inf")  # not a number: no agreement


def by_group(names: Sequence[str]) -> dict[str, list[str]]:
    """Names within each group, the group being what stands before the first slash."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        group, _, rest = name.partition("/")
        groups[group].append(rest)
    return groups


def check(golden: Golden, stored: dict[str, Tensor]) -> bool:
    """Print a line a group, and the tensors that fail; whether all agree."""
    groups = by_group(list(stored))
    errors: dict[str, float] = {}
    for group in [g for g in GROUPS if g in groups]:
        names = [f"{group}/{name}" for name in groups[group]]
        start = time.perf_counter()
        ours = GROUPS[group](golden, groups[group])
        found = {f"{group}/{name}": value for name, value in ours.items()}
        compared = {n: relative_error(found[n], stored[n]) for n in names if n in found}
        seconds = time.perf_counter() - start
        worst = max(compared.values(), default=0.0)
        good = len(compared) == len(names) and worst <= TOLERANCE
        print(
            f"{group:<24}{len(compared):>4} tensors   worst {worst:8.2e}   "
            f"{seconds:5.1f} s   {'ok' if good else 'FAIL'}"
        )
        errors |= compared
    inputs = [name for name in stored if name in golden.used]
    print(f"{INPUT:<24}{len(inputs):>4} tensors   used as they are")
    return report(errors, inputs, list(stored))


def report(errors: dict[str, float], inputs: list[str], stored: list[str]) -> bool:
    """Print what fails and the sum of it; whether nothing does."""
    wrong = [f"{n}: error {e:.3g}" for n, e in errors.items() if e > TOLERANCE]
    missed = [f"{n}: not checked" for n in stored if n not in errors and n not in inputs]
    for failure in wrong + missed:
        print(failure)
    print(
        f"{len(errors) + len(inputs)} of {len(stored)} tensors checked, "
        f"worst {max(errors.values()):.2e} (at most {TOLERANCE:g}): "
        f"{'DISAGREED' if wrong or missed else 'agreed'}"
    )
    return not wrong and not missed


def write(golden: Golden, stored: dict[str, Tensor], path: Path) -> None:
    """Write our own results under the stored names, beside the stored inputs."""
    groups = by_group(list(stored))
    found = {name: value for name, value in stored.items() if name.startswith(f"{INPUT}/")}
    for group in [g for g in GROUPS if g in groups]:
        ours = GROUPS[group](golden, groups[group])
        for name in groups[group]:
            found[f"{group}/{name}"] = ours[name].detach().contiguous()
    save_file(found, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="a golden file (safetensors)")
    parser.add_argument("--prefix", default="", help="put before every name that seeds numbers")
    parser.add_argument(
        "--write", type=Path, metavar="OUT", help="write our results, check nothing"
    )
    given = parser.parse_args(arguments)
    try:
        stored = load_file(given.file)
    except (OSError, SafetensorError) as error:
        print(f"{given.file} cannot be read as safetensors: {error}", file=sys.stderr)
        return 2
    if not set(by_group(list(stored))) & set(GROUPS):
        print(f"{given.file} holds no group of results: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    golden = Golden(Fill(given.prefix), stored)
    try:
        if given.write is not None:
            write(golden, stored, given.write)
            return 0
        return 0 if check(golden, stored) else 1
    except KeyError as error:
        print(f"{given.file} lacks {error}, which its results need", file=sys.stderr)
        return 2


if __name__ == "__main__":
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing")  # PEFT asks transformers
    sys.exit(main())
