"""`aurora params`: what a recipe trains, by module: how many parameters, and which share."""

from __future__ import annotations

from aurora_vl.cli.options import AsJson, Quiet, RecipeName, Settings, Smoke, Verbose
from aurora_vl.reporting.terminal import show_json, show_table


def params(
    recipe: RecipeName,
    settings: Settings = None,
    smoke: Smoke = False,
    json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Show what a recipe trains, by module: how many parameters, and which share.

    Neither data nor weights are read: backbone=blip-base counts without a checkpoint.
    """
    from aurora_vl.recipes.recipe import load_recipe
    from aurora_vl.training.parameter_report import parameter_report

    resolved = load_recipe(recipe, settings or (), smoke=smoke)
    report = parameter_report(resolved)
    if json:
        show_json(report.to_dict())
        return
    total = report.count.total
    sums = [
        ("adapter (factors and gates)", report.adapter),
        ("heads", report.count.heads),
        ("backbone", report.count.backbone),
        ("all that is trained", report.count.trainable),
        ("model in use", total),
    ]
    rows = [[m.module, m.part, f"{m.numbers:,}", f"{m.share:.4f} %"] for m in report.modules]
    rows += [[name, "", f"{n:,}", f"{100 * n / total:.4f} %"] for name, n in sums if n]
    title = f"{resolved.adapter.method} on {resolved.backbone}"
    show_table(title, ("module", "part", "parameters", "share"), rows)
