"""pipeline.explain.queries: the syntax of queries, and pixels in other sizes."""

import pytest

from pipeline.explain.queries import ClassQuery, MeanQuery, PixelQuery, Query, parse_query


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("mean", MeanQuery()),
        ("pixel:0,15", PixelQuery(0, 15)),
        ("pixel: 3, 4", PixelQuery(3, 4)),
        ("class:traffic light", ClassQuery("traffic light")),
    ],
)
def test_queries(text: str, query: Query) -> None:
    """The three kinds."""
    assert query == parse_query(text)


@pytest.mark.parametrize("text", ["", "car", "pixel:3", "pixel:-1,2", "pixel:1.5,2", "class:"])
def test_other_texts(text: str) -> None:
    """Anything else is refused, with the syntax."""
    with pytest.raises(ValueError, match="is not a query: give pixel:ROW,COLUMN, class:NAME or"):
        parse_query(text)


@pytest.mark.parametrize(
    ("pixel", "expected"), [((0, 0), (0, 0)), ((7, 11), (3, 5)), ((6, 3), (3, 1))]
)
def test_pixel_at_half_size(pixel: tuple[int, int], expected: tuple[int, int]) -> None:
    """At half the size, two pixels along each axis fall into one."""
    assert expected == PixelQuery(*pixel).locate((8, 12), (4, 6))


@pytest.mark.parametrize("pixel", [(8, 0), (0, 12)])
def test_pixel_outside(pixel: tuple[int, int]) -> None:
    """A pixel outside the photograph is refused, with the rows and columns that exist."""
    with pytest.raises(ValueError, match="a row from 0 to 7 and a column from 0 to 11"):
        PixelQuery(*pixel).locate((8, 12), (4, 6))


def test_class_names_ignore_case() -> None:
    """A class is found by its name in any case; a wrong name is answered with the nearest."""
    assert 1 == ClassQuery("Car").find_class(["road", "car"])
    with pytest.raises(ValueError, match=r"did you mean car\?; choose from road, car"):
        ClassQuery("cra").find_class(["road", "car"])
