"""Patterns of a dataset's ``.bidsignore``: files that its authors declare to be no part of it.

References
----------
BIDS validator, "Ignoring files": the syntax is that of ``.gitignore``.
"""

import re
from pathlib import Path, PurePosixPath

_PARTS = re.compile(r"(\*\*/|/\*\*$|\*\*|\*|\?|\[[^]/]+\]|\\.)")
_MEANING = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class Ignored:
    """Which files a dataset's ``.bidsignore`` names; none where it has no such file.

    Parameters
    ----------
    root : path
        The dataset.
    """

    def __init__(self, root: str | Path):
        try:
            lines = (Path(root) / ".bidsignore").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        kept = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        self._patterns = [(line.startswith("!"), _pattern(line.removeprefix("!"))) for line in kept]

    def __contains__(self, path: PurePosixPath) -> bool:
        """Whether a path below the root is named, or lies in a folder that is; the last pattern counts."""
        ignored = False
        for negated, pattern in self._patterns:
            if pattern is not None and pattern.fullmatch(path.as_posix()):
                ignored = not negated
        return ignored


def _pattern(line: str) -> re.Pattern[str] | None:
    """A line as a regular expression of paths; None where it is none."""
    body = line.rstrip("/")
    start = "" if "/" in body else "(?:.*/)?"
    parts = [_MEANING.get(part) or _literal(part) for part in _PARTS.split(body.removeprefix("/"))]
    try:
        return re.compile(f"{start}{''.join(parts)}(?:/.*)?", re.DOTALL)
    except re.error:
        return None


def _literal(part: str) -> str:
    """A part of a pattern without a wildcard: a set of characters, an escaped character, or text."""
    if part.startswith("[") and part.endswith("]"):
        return f"[{'^' * part.startswith('[!')}{part[1:-1].removeprefix('!')}]"
    return re.escape(part[1:] if part.startswith("\\") else part)
