"""What the last `dvc repro` came to: the figures, and where to look at them."""

from pathlib import Path
from typing import Any

from pipeline import dvc
from pipeline.formatting import NOT_AVAILABLE, format_percent
from pipeline.tracking import store


def summarize_results() -> str:
    """A few lines for a person: the verdict, mIoU of every arm, the report, pictures and runs.

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
        raise ValueError("there are no results yet: run `dvc repro`")
    panels = [folder for folder in arms if (folder / "panels").is_dir()]
    head = "Results" if panels else "Results, as they were committed: `dvc repro` makes them here"
    lines = [
        "",
        head,
        *(f"  {_format_arm(folder.name, metrics)}" for folder, metrics in arms.items()),
    ]
    lines += ["", f"  {_read_verdict(report)}", ""]
    lines += ["Where to look", f"  the comparison   {report}"]
    if panels:
        worst = {str(folder.parent / "*" / "panels") for folder in panels}
        lines += [f"  the worst frames {', '.join(sorted(worst))}"]
        lines += ["  all plots        dvc plots show -o dvc_plots --open"]
    if store.exists():
        lines += [f"  the runs         {store.view_instructions()}"]
        lines += [f"                   then open {store.page_url()}"]
    lines += ["", "To type these commands, first: source .venv/bin/activate"]
    return "\n".join(lines)


def _format_arm(name: str, metrics: dict[str, Any]) -> str:
    miou, low, high = (
        NOT_AVAILABLE if metrics[key] is None else format_percent(metrics[key])
        for key in ("miou", "miou_low", "miou_high")
    )
    interval = f"95 % interval over frames {low} to {high}"
    return f"{name:<8} mIoU {miou} %, {interval}  ({metrics['protocol']})"


def _read_verdict(report: Path) -> str:
    bold = (line for line in report.read_text(encoding="utf-8").splitlines() if line[:2] == "**")
    return next(bold, "").strip("*")
