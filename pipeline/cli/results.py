"""Summarizes the results of the last `dvc repro` and where to find them."""

from pathlib import Path
from typing import Any

from pipeline import dvc
from pipeline.formatting import NOT_AVAILABLE, format_percent
from pipeline.tracking import store


def summarize_results() -> str:
    """Return the mIoU of each arm, the verdict, and the paths of reports, images and runs.

    Raises:
        ValueError: if there are no results yet.
    """
    report = dvc.find_output("ablation.md")
    arms = {
        Path(path).parent: metrics
        for path, metrics in sorted(dvc.load_metrics().items())
        if "miou_low" in metrics
    }
    if report is None or not report.exists() or not arms:
        raise ValueError("no results yet: run `dvc repro`")
    panels = [folder for folder in arms if (folder / "panels").is_dir()]
    heading = "Results" if panels else "Results from Git (`dvc repro` computes them here)"
    lines = [
        "",
        heading,
        *(f"  {_format_arm(folder.name, metrics)}" for folder, metrics in arms.items()),
    ]
    lines += ["", f"  {_read_verdict(report)}", ""]
    lines += ["Where to look", f"  comparison       {report}"]
    heads = dvc.find_output("explain.md")
    if heads is not None and heads.exists():
        lines += [f"  attention heads  {heads}"]
    if panels:
        patterns = {str(folder.parent / "*" / "panels") for folder in panels}
        lines += [f"  worst frames     {', '.join(sorted(patterns))}"]
        lines += ["  all plots        dvc plots show -o dvc_plots --open"]
    if store.exists():
        lines += [f"  runs             {store.view_instructions()}"]
        lines += [f"                   then open {store.page_url()}"]
    lines += ["", "Before you run these commands: source .venv/bin/activate"]
    return "\n".join(lines)


def _format_arm(name: str, metrics: dict[str, Any]) -> str:
    miou, low, high = (
        NOT_AVAILABLE if metrics[key] is None else format_percent(metrics[key])
        for key in ("miou", "miou_low", "miou_high")
    )
    interval = f"95 % interval over frames {low} to {high}"
    return f"{name:<8} mIoU {miou} %, {interval}  ({metrics['protocol']})"


def _read_verdict(report: Path) -> str:
    lines = report.read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if line.startswith("**")), "").strip("*")
