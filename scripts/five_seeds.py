"""Zero-shot, Aurora and full fine-tuning on the generated world, several seeds, tuned fairly.

Each method's learning rate is chosen on validation data of one world; then every method is trained
with each seed on another world that nothing was tuned on, and its test split is scored once. A
killed run goes on where it stopped. Results go to OUT/results.json and, as a table, to standard
output and OUT/table.md.

    python scripts/five_seeds.py --out docs/results/five-seeds
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from aurora_vl.comparison.bootstrap import paired_bootstrap
from aurora_vl.comparison.tables import markdown_table
from aurora_vl.evaluation.recall import query_recall

RECIPE = "demo-retrieval"
RATES = {"aurora": (5e-3, 1e-2, 2e-2), "full": (3e-4, 1e-3, 2e-3)}
TUNING_WORLD, FINAL_WORLD = 0, 1


def run(arguments: list[str]) -> None:
    """One command of ours, on one thread, so that two can run side by side."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "aurora_vl", *arguments, "-q"]
    subprocess.run(command, check=True, env=environment)


def settings(world: int, extra: list[str], runs: Path) -> list[str]:
    """Recipe and settings common to all runs."""
    folder = runs / f"world-{world}"
    return [RECIPE, f"data.world.seed={world}", f"data.annotations={folder}", *extra]


def train(method: str, rate: float, seed: int, world: int, extra: list[str], runs: Path) -> Path:
    """Train one run unless it is finished; its folder."""
    out = runs / f"{method}-{rate:g}-seed{seed}-world{world}"
    own = [f"adapter.method={method}", f"training.learning_rate={rate}", f"training.seed={seed}"]
    run(["train", *settings(world, extra, runs), *own, f"training.output={out}", "--resume"])
    print("finished", out.name, read(out)["metrics"]["r_mean"], flush=True)
    return out


def read(folder: Path) -> Any:
    """A run's metrics.json."""
    return json.loads((folder / "metrics.json").read_text())


def best_validation(folder: Path) -> float:
    """The best r_mean that the run reached on its validation split."""
    history = json.loads((folder / "history.json").read_text())
    return max(row["eval_r_mean"] for row in history if "eval_r_mean" in row)


def per_query(folder: Path) -> list[np.ndarray]:
    """Each query's share of r_mean, media queries and text queries."""
    predictions = json.loads((folder / "predictions.json").read_text())
    sides = ("media_to_text", "text_to_media")
    return [query_recall(np.array([q["rank"] for q in predictions[s]])) for s in sides]


def main() -> None:
    """Tune, train, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/five-seeds"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("settings", nargs="*", help="key=value settings for every run")
    args = parser.parse_args()
    for world in (TUNING_WORLD, FINAL_WORLD):  # written once, before runs share it
        out = args.runs / f"zero-shot-world{world}"
        run(["evaluate", *settings(world, args.settings, args.runs), "--out", str(out)])
    with ThreadPoolExecutor(args.parallel) as pool:
        trials = {
            (method, rate): pool.submit(
                train, method, rate, 0, TUNING_WORLD, args.settings, args.runs
            )
            for method, rates in RATES.items()
            for rate in rates
        }
        validation = {key: best_validation(job.result()) for key, job in trials.items()}
        rates = {m: max(RATES[m], key=lambda rate: validation[m, rate]) for m in RATES}
        print("learning rates chosen on validation data:", rates, flush=True)
        jobs = {
            method: [
                pool.submit(
                    train, method, rates[method], seed, FINAL_WORLD, args.settings, args.runs
                )
                for seed in range(1, args.seeds + 1)
            ]
            for method in RATES
        }
        folders = {method: [job.result() for job in found] for method, found in jobs.items()}
    write(args.out, args.runs, folders, rates, validation)


def write(
    out: Path,
    runs: Path,
    folders: dict[str, list[Path]],
    rates: dict[str, float],
    validation: dict[tuple[str, float], float],
) -> None:
    """results.json and table.md."""
    zero = read(runs / f"zero-shot-world{FINAL_WORLD}")
    measured = {m: [read(f)["metrics"] for f in found] for m, found in folders.items()}
    queries = {
        m: [np.stack(side) for side in zip(*(per_query(f) for f in found), strict=True)]
        for m, found in folders.items()
    }
    ahead = paired_bootstrap(queries["full"], queries["aurora"])
    counts = {m: read(found[0])["parameters"] for m, found in folders.items()}
    rows: list[list[str | int | float]] = [
        ["zero-shot", 0, 0, "", *(zero["metrics"][k] for k in ("i2t_r1", "t2i_r1", "r_mean")), ""]
    ]
    for method, found in measured.items():
        means = [float(np.mean([m[k] for m in found])) for k in ("i2t_r1", "t2i_r1", "r_mean")]
        spread = float(np.std([m["r_mean"] for m in found], ddof=1))
        count = counts[method]
        own = count["factors"] + count["gates"] or count["trainable"]
        rows.append([method, own, count["heads"], f"{rates[method]:g}", *means, f"{spread:.1f}"])
    header = [
        "method",
        "own numbers",
        "heads",
        "learning rate",
        "i2t R@1",
        "t2i R@1",
        "r_mean",
        "sd",
    ]
    table = markdown_table(header, rows)
    table += f"\nfull fine-tuning less Aurora, r_mean, 95 % paired bootstrap: {ahead}\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(table)
    content = {
        "zero_shot": zero["metrics"],
        "metrics": measured,
        "parameters": counts,
        "learning_rates": rates,
        "validation": {f"{m} {rate:g}": value for (m, rate), value in validation.items()},
        "full_minus_aurora": {"mean": ahead.mean, "low": ahead.low, "high": ahead.high},
        "recipe": read(folders["aurora"][0])["config"],
        "versions": zero["versions"],
    }
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    print(table)


if __name__ == "__main__":
    main()
