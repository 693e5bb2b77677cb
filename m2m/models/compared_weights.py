"""Weights that are compared on real pairs: given by path, or installed with m2m."""

from collections.abc import Mapping
from pathlib import Path

from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.models.pretrained import installed
from m2m.options.real_options import is_file


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
    known = installed()
    if given is None:
        records = {name: read_json(path.with_name("model.json")) for name, path in known.items()}
        return {name: known[name] for name, one in records.items() if (one["source"], one["target"]) == ("t1", "fa")}
    for name in given.values():
        if not is_file(name) and name not in known:
            remedy = f"installed are {', '.join(known) or 'none'}; or give the path of a model.safetensors"
            raise DataError("no weights of this name are installed", value=name, remedy=remedy)
    return {row: Path(name) if is_file(name) else known[name] for row, name in given.items()}
