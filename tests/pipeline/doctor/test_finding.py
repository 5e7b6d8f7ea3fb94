from pipeline.doctor.finding import Finding, format_findings

LONG = Finding("disk", False, "12 GB free; a whole run writes about 50 GB: make room for 39 GB")
GOOD = Finding("labels", True, "label values of 2 frames", (" 7 road  90 %", " 8 sidewalk  10 %"))


def test_a_log_has_a_line_per_finding() -> None:
    """Topic, mark and sentence in columns, tables as they are, the count last."""
    expected = [
        "disk         MEND  12 GB free; a whole run writes about 50 GB: make room for 39 GB",
        "labels       ok    label values of 2 frames",
        "                    7 road  90 %",
        "                    8 sidewalk  10 %",
        "",
        "1 thing to mend",
    ]
    assert expected == list(format_findings([LONG, GOOD]))


def test_a_terminal_has_no_line_wider_than_it_is() -> None:
    """Sentences are wrapped below themselves, and nothing of them is lost."""
    told = list(format_findings([LONG], width=60))[:-2]
    assert len(told) > 1
    assert all(len(line) <= 60 for line in told)
    assert all(line.startswith(" " * 19) for line in told[1:])
    assert LONG.message == " ".join(line[19:] for line in told)


def test_a_topic_is_named_once() -> None:
    """The second finding of a topic leaves its column empty."""
    first, second, *_ = format_findings(
        [GOOD.__class__("git", True, "one"), Finding("git", True, "two")]
    )
    assert first.startswith("git ")
    assert second == " " * 13 + "ok    two"


def test_where_nothing_is_wrong() -> None:
    """The last line then says so."""
    assert "all is well" == list(format_findings([GOOD]))[-1]


def test_colours_do_not_shift_the_columns() -> None:
    """Colouring adds its marks around the words only."""
    (line, *_) = format_findings(
        [LONG], style_topic=lambda text: f"<{text}>", style_status=lambda text: f"[{text}]"
    )
    assert line.startswith("<disk>         [MEND]  12 GB free")
