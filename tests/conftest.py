"""Fixtures for every test file: data and programs that not every machine has."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Files that take minutes, the longest first: begun last, one of them would keep a single core busy at the end.
LONG = (
    "test_end_to_end",
    "test_slurm",
    "test_bad_subjects",
    "test_faults",
    "test_growth",
    "test_processes",
    "test_workflow",
)

# One thread each, before numpy or torch load: the test runner already uses every core.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; `--no-loadscope-reorder` keeps this order."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


def not_here(reason: str) -> None:
    """Skip with the reason, or fail where M2M_REQUIRE_TOOLS=1 says that all must be there."""
    if os.environ.get("M2M_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{reason}, and M2M_REQUIRE_TOOLS=1 asks for it")
    pytest.skip(reason)


@pytest.fixture
def rng():
    """Random numbers, the same in every test."""
    import numpy as np  # after the threads are set

    return np.random.default_rng(3)


@pytest.fixture(scope="module")
def chromium():
    """The system's browser, started."""
    import browser  # what only these tests need
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        not_here("chromium is not installed")
    with sync_playwright() as playwright:
        window = browser.launch(playwright, program)
        yield window
        window.close()


@pytest.fixture
def shared_data() -> Path:
    """Folder of the real scans, beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        not_here("the real scans (../shared/data) are not on this machine")
    return folder


@pytest.fixture
def needs_tool() -> Callable[[str], None]:
    """Function that skips the test where a program is not installed."""

    def need(program: str) -> None:
        if shutil.which(program) is None:
            not_here(f"{program} is not installed")

    return need
