"""What the last `dvc repro` came to: the figures, and where to look at them."""

from pipeline import repro, store


def summary() -> str:
    """A few lines for a person: mIoU of every arm, the report, the pictures, the runs.

    Raises:
        ValueError: if there are no results yet.
    """
    report = repro.output("ablation.md")
    arms = {
        path: values
        for path, values in sorted(repro.metrics().items())
        if "protocol" in values and "miou" in values
    }
    if report is None or not report.exists() or not arms:
        raise ValueError("there are no results yet: run `dvc repro`")
    lines = ["", "Results"]
    for path, values in arms.items():
        name = path.split("/")[-2]
        low, high = values["miou_low"], values["miou_high"]
        lines.append(
            f"  {name:<8} mIoU {values['miou']:.1%} [{low:.1%}, {high:.1%}]  {values['protocol']}"
        )
    lines += [
        "",
        "Where to look",
        f"  the comparison   {report}",
        f"  the pictures     {', '.join(sorted(path.rsplit('/', 1)[0] + '/panels/' for path in arms))}",
        "  all plots        dvc plots show -o dvc_plots --open",
        f"  the runs         {store.where_to_look()}",
        f"                   then open {store.page()}",
    ]
    return "\n".join(lines)
