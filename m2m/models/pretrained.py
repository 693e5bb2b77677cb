"""Weights that are installed with m2m, which `m2m translate` uses by default, and those that options name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import m2m
from m2m.io.bids import NAME
from m2m.io.errors import DataError
from m2m.io.files import read_json

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


def _between(source: str, target: str) -> dict[str, tuple[Path, str]]:
    """Installed weights from a source to a target, with their family, by name."""
    records = {name: (path, read_json(path.with_name("model.json"))) for name, path in installed().items()}
    return {
        name: (path, record["family"])
        for name, (path, record) in records.items()
        if (record["source"], record["target"]) == (source, target)
    }


def compared_weights(given: Mapping[str, str] | None, target: str) -> dict[str, Path]:
    """Find the weights that are compared on real pairs.

    Parameters
    ----------
    given : mapping of str to str, or None
        As in the section `real`: path or name of installed weights, by row; None: all that are installed and
        predict the target from a T1.
    target : str
        Modality.

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
        return {name: path for name, (path, _) in _between("t1", target).items()}
    return {row: weights_of(name) for row, name in given.items()}


def starting_weights(start_from: Literal["pretrained"] | Path, source: str, target: str, family: str) -> Path:
    """Find the weights that ``training.start_from`` names.

    Parameters
    ----------
    start_from : "pretrained" or Path
        Installed weights of the same source and target, of this family if there are several; or a file.
    source, target : str
        Modalities of the task.
    family : str

    Returns
    -------
    Path
        ``model.safetensors``; its ``model.json`` is beside it.

    Raises
    ------
    DataError
        No weights of this source and target are installed.
    """
    if start_from != "pretrained":
        return Path(start_from)
    found = _between(source, target).values()
    if not found:
        raise DataError(
            f"no weights from {source} to {target} are installed",
            value=", ".join(installed()) or "none",
            remedy="set training.start_from to the model.safetensors of a model that you trained, or remove it",
        )
    return next((path for path, own in found if own == family), next(iter(found))[0])
