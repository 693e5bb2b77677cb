"""A headless browser to check pages with: Debian's Chromium, by Playwright."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright

# WebGL without a graphics card; the sandbox does not work for root.
ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
WIDTHS = {"desktop": 1280, "phone": 390}
# A busy machine renders slowly.
TIMEOUT_MS = 300_000
# Problems that `opened` records for a page without any.
CLEAN: dict[str, list[str]] = {"console": [], "errors": [], "requests": []}
# Schemes of addresses inside the page.
INTERNAL = ("file:", "data:", "blob:")


def launch(playwright: Playwright, program: str) -> Browser:
    """Start the browser."""
    return playwright.chromium.launch(executable_path=program, args=ARGUMENTS)


@contextmanager
def opened(browser: Browser, path: Path, width: int) -> Iterator[tuple[Page, dict[str, Any]]]:
    """Open a file in a window and record problems.

    Parameters
    ----------
    browser : Browser
    path : Path
        HTML file.
    width : int
        Of the window, in pixels.

    Yields
    ------
    page : Page
    problems : dict
        console (errors and warnings), errors (exceptions), requests (addresses outside the page).
    """
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(TIMEOUT_MS)
    problems: dict[str, list[str]] = {"console": [], "errors": [], "requests": []}
    page.on(
        "console",
        lambda m: problems["console"].append(m.text) if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: problems["errors"].append(str(error)))
    page.on(
        "request",
        lambda r: None if r.url.startswith(INTERNAL) else problems["requests"].append(r.url),
    )
    try:
        page.goto(path.resolve().as_uri())
        yield page, problems
    finally:
        page.close()


def checked(page: Page) -> tuple[dict[str, str], set[str]]:
    """Rules of axe-core that a page violates, each with an element; and rules that it passes."""
    found = Axe().run(page).response
    violations = {rule["id"]: rule["nodes"][0]["html"] for rule in found["violations"]}
    return violations, {rule["id"] for rule in found["passes"]}


def figure_of(page: Page, name: str) -> NDArray[np.uint8]:
    """Screenshot of an element, shape (height, width, 3)."""
    shot = page.locator(name).screenshot(timeout=TIMEOUT_MS)
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def unfold(page: Page) -> None:
    """Open all details elements, and load all images that are loaded lazily."""
    page.evaluate("""async () => {
        document.querySelectorAll("details").forEach((part) => { part.open = true; });
        await Promise.all([...document.images].map((image) => {
            image.loading = "eager";
            return image.decode().catch(() => {});
        }));
    }""")
