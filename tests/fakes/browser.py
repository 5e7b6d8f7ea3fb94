"""A headless browser for the tests marked `browser`."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

BROWSER_MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@contextmanager
def open_page() -> Iterator[Any]:
    """Open an empty tab; yield it as playwright's Page."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        # With its sandbox Chromium does not run as root, as in a container.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def is_image_loaded(image: Any) -> bool:
    """Return whether the browser can decode the image of an `img` element."""
    image.wait_for()
    return bool(image.evaluate("image => image.decode().then(() => image.naturalWidth > 0)"))
