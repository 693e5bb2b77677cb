"""Weights that are installed with m2m: trained models that `m2m translate` uses by default."""

from collections.abc import Mapping
from pathlib import Path

import m2m
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.options.real_options import is_file

FOLDER = Path(m2m.__file__).parent / "weights"


def installed() -> dict[str, Path]:
    """Find the installed weights, by name, such as ``t1-fa``.

    Returns
    -------
    dict of str to Path
        ``model.safetensors``; ``model.json`` and ``model_card.md`` are beside it.
    """
    return {path.parent.name: path for path in sorted(FOLDER.glob("*/model.safetensors"))}


def chosen(weights: Mapping[str, str] | None) -> dict[str, Path]:
    """Find the weights that are compared on real pairs.

    Parameters
    ----------
    weights : mapping of str to str, or None
        As in the section `real`: path or name of installed weights, by row; None: all that are installed and
        predict FA from a T1.

    Returns
    -------
    dict of str to Path
        ``model.safetensors``, by row.

    Raises
    ------
    DataError
        No weights of this name are installed.
    """
    known = installed()
    if weights is None:
        records = {name: read_json(path.with_name("model.json")) for name, path in known.items()}
        return {name: known[name] for name, one in records.items() if (one["source"], one["target"]) == ("t1", "fa")}
    for name in weights.values():
        if not is_file(name) and name not in known:
            remedy = f"installed are {', '.join(known) or 'none'}; or give the path of a model.safetensors"
            raise DataError("no weights of this name are installed", value=name, remedy=remedy)
    return {row: Path(name) if is_file(name) else known[name] for row, name in weights.items()}
