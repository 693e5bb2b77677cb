"""Weights that are compared on real pairs: given by path, or installed with m2m."""

from collections.abc import Mapping
from pathlib import Path

from m2m.io.files import read_json
from m2m.models.pretrained import installed, weights_of


def compared_weights(given: Mapping[str, str] | None) -> dict[str, Path]:
    """Find the weights that are compared on real pairs.

    Parameters
    ----------
    given : mapping of str to str, or None
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
    if given is None:
        known = installed()
        records = {name: read_json(path.with_name("model.json")) for name, path in known.items()}
        return {name: known[name] for name, one in records.items() if (one["source"], one["target"]) == ("t1", "fa")}
    return {row: weights_of(name) for row, name in given.items()}
