"""What is installed of what m2m asks for."""

import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import suppress

import m2m


def requirements() -> Iterator[tuple[str, str]]:
    """Distributions that m2m depends on, each with the extra that asks for it; empty for what it always needs.

    Yields
    ------
    name, extra : str
    """
    for requirement in importlib.metadata.requires(m2m.DISTRIBUTION) or []:
        match = re.match(r"([\w.-]+)(?:.*extra == \W?(\w+))?", requirement)
        assert match is not None, requirement
        yield match[1], match[2] or ""


def version_of(name: str) -> str:
    """Version of a distribution; empty where it is not installed."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""
