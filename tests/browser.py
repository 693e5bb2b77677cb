"""A real browser without a screen, and what it says of a page: Debian's Chromium, by Playwright."""

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

# WebGL without a graphics card; a sandbox cannot be had by root.
ARGUMENTS = (
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
WIDTHS = {"desktop": 1280, "phone": 390}
# A busy machine draws slowly.
PATIENCE_MS = 300_000
# What `opened` notes of a page in which nothing is wrong.
CLEAN: dict[str, list[str]] = {"console": [], "errors": [], "requests": []}
# What of a page is inside of it.
INSIDE = ("file:", "data:", "blob:")


def launch(playwright: Playwright, program: str) -> Browser:
    """Start the browser."""
    return playwright.chromium.launch(executable_path=program, args=ARGUMENTS)


@contextmanager
def opened(browser: Browser, path: Path, width: int) -> Iterator[tuple[Page, dict[str, Any]]]:
    """Open a file in a window of a width in pixels; what is wrong is noted as it comes.

    Yields
    ------
    page : Page
    wrong : dict
        console (errors and warnings), errors (exceptions), requests (addresses outside the page).
    """
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    wrong: dict[str, list[str]] = {"console": [], "errors": [], "requests": []}
    page.on(
        "console",
        lambda m: wrong["console"].append(m.text) if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: wrong["errors"].append(str(error)))
    page.on(
        "request",
        lambda r: None if r.url.startswith(INSIDE) else wrong["requests"].append(r.url),
    )
    try:
        page.goto(path.resolve().as_uri())
        yield page, wrong
    finally:
        page.close()


def judged(page: Page) -> tuple[dict[str, str], set[str]]:
    """Rules of axe-core that a page breaks, each with an element; and those that it keeps."""
    found = Axe().run(page).response
    broken = {rule["id"]: rule["nodes"][0]["html"] for rule in found["violations"]}
    return broken, {rule["id"] for rule in found["passes"]}


def picture_of(page: Page, name: str) -> NDArray[np.uint8]:
    """What an element shows, shape (height, width, 3)."""
    shot = page.locator(name).screenshot(timeout=PATIENCE_MS)
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def unfold(page: Page) -> None:
    """Open everything that is folded, and let every picture load that waits to be seen."""
    page.evaluate("""async () => {
        document.querySelectorAll("details").forEach((part) => { part.open = true; });
        await Promise.all([...document.images].map((picture) => {
            picture.loading = "eager";
            return picture.decode().catch(() => {});
        }));
    }""")
