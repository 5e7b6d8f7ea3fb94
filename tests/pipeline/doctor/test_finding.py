from pipeline.doctor.finding import Finding, format_findings

LONG = Finding("disk", False, "12 GB free; a full run writes about 50 GB: free 39 GB more")
GOOD = Finding("labels", True, "label values of 2 frames", (" 7 road  90 %", " 8 sidewalk  10 %"))


def test_log_has_a_line_per_finding() -> None:
    """A log has topic, status and message in columns, tables unchanged, and the count last."""
    expected = [
        "disk         FAIL  12 GB free; a full run writes about 50 GB: free 39 GB more",
        "labels       ok    label values of 2 frames",
        "                    7 road  90 %",
        "                    8 sidewalk  10 %",
        "",
        "1 problem found",
    ]
    assert expected == list(format_findings([LONG, GOOD]))


def test_terminal_lines_are_wrapped() -> None:
    """Messages are wrapped in their column, and no word is lost."""
    lines = list(format_findings([LONG], width=60))[:-2]
    assert len(lines) > 1
    assert all(len(line) <= 60 for line in lines)
    assert all(line.startswith(" " * 19) for line in lines[1:])
    assert LONG.message == " ".join(line[19:] for line in lines)


def test_topic_is_printed_once() -> None:
    """The second finding of a topic has an empty topic column."""
    first, second, *_ = format_findings([Finding("git", True, "one"), Finding("git", True, "two")])
    assert first.startswith("git ")
    assert second == " " * 13 + "ok    two"


def test_last_line_counts_the_problems() -> None:
    """The last line has the number of problems, also if it is 0."""
    assert "no problems found" == list(format_findings([GOOD]))[-1]
    assert "2 problems found" == list(format_findings([LONG, GOOD, LONG]))[-1]


def test_colors_do_not_shift_the_columns() -> None:
    """Escape sequences surround the words, not the padding."""
    (line, *_) = format_findings(
        [LONG], style_topic=lambda text: f"<{text}>", style_status=lambda text: f"[{text}]"
    )
    assert line.startswith("<disk>         [FAIL]  12 GB free")
