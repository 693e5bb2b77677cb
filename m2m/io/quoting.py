"""What a message may quote: short, in printable characters, and of no file outside of the dataset.

A dataset may come from elsewhere, and a link in it may lead to any file of this machine. Findings are
published in reports: content that a link leads to must not reach them.
"""

import os
from pathlib import Path
from unicodedata import category

# Characters that are quoted at most, of a problem and of a value.
MOST_OF_PROBLEM, MOST_OF_VALUE = 600, 400
NOT_SHOWN = "not shown, since the file is a link that leads out of the dataset"


def printable(text: str, most: int | None = None) -> str:
    """Make text printable in one line: control characters become escapes, and the rest of a long text is left out.

    So that no file name or cell starts a row of a table, steers a terminal or cannot be written as UTF-8.

    Parameters
    ----------
    text : str
    most : int, optional
        Number of characters that are kept.

    Returns
    -------
    str
        Text that UTF-8 can write: no lone surrogates of undecodable names.
    """
    if most is not None and len(text) > most:
        text = f"{text[:most]} ... ({len(text)} characters)"
    if text.isprintable():
        return text
    # Spaces of other scripts are spaces; what has no width, or reverses the text after it, is escaped.
    return "".join(c if c.isprintable() or category(c) == "Zs" else c.encode("unicode_escape").decode() for c in text)


def dataset_of(path: str | Path) -> Path | None:
    """Root of the dataset that a participant's file is in: the folder above ``sub-*``; None for any other file.

    Links are not followed, since a dataset may consist of links.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  (Path.absolute keeps ..)
    folders = [folder for folder in absolute.parents if folder.name.startswith("sub-")]
    return folders[0].parent if folders else None


def leads_outside(path: str | Path) -> bool:
    """Whether a file lies outside of the dataset, or of the folder, that its path is in, by way of a link."""
    folder = dataset_of(path) or Path(path).parent
    try:
        return not Path(path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a circle of links, or no name of a file
        return True


def shown(text: str, path: str | Path) -> str:
    """Return text that was read from a file as a message may quote it.

    Parameters
    ----------
    text : str
        Content of the file, or a reader's message, which may quote it.
    path : path
        The file.

    Returns
    -------
    str
        `NOT_SHOWN` where a link leads out of the dataset.
    """
    return NOT_SHOWN if leads_outside(path) else text
