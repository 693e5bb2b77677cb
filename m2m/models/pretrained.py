"""Weights that are installed with m2m: trained models that `m2m translate` uses by default."""

import re
from pathlib import Path

import m2m
from m2m.io.bids import NAME
from m2m.io.errors import DataError

FOLDER = Path(m2m.__file__).parent / "weights"
# The weights that are used where none are given.
DEFAULT = "t1-fa"


def installed() -> dict[str, Path]:
    """Find the installed weights, by name, such as ``t1-fa``.

    Returns
    -------
    dict of str to Path
        ``model.safetensors``; ``model.json`` and ``model_card.md`` are beside it.
    """
    return {path.parent.name: path for path in sorted(FOLDER.glob("*/model.safetensors"))}


def weights_of(given: str | Path | None = None) -> Path:
    """Find weights by their path, or by the name of installed ones.

    Parameters
    ----------
    given : str or Path, optional
        A file that has the name of installed weights comes before these. None: `DEFAULT`.

    Returns
    -------
    Path
        ``model.safetensors``; a path as given need not exist.

    Raises
    ------
    DataError
        No weights of this name are installed.
    """
    name = str(given or DEFAULT)
    if given and (Path(given).is_file() or not re.fullmatch(NAME, name)):
        return Path(given)
    known = installed()
    if name not in known:
        raise DataError(
            f"no weights named {name} are installed with m2m",
            value=", ".join(known) or "none",
            remedy="give the model.safetensors of a trained model with --weights",
        )
    return known[name]
