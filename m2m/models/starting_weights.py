"""Which trained weights a training starts from: the installed ones, or those of a path; without PyTorch."""

from pathlib import Path
from typing import Literal

from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.models.pretrained import installed


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
    found: dict[str, Path] = {}
    for weights in installed().values():
        record = read_json(weights.with_name("model.json"))
        if (record["source"], record["target"]) == (source, target):
            found.setdefault(record["family"], weights)
    if not found:
        raise DataError(
            f"no weights from {source} to {target} are installed",
            value=", ".join(installed()) or "none",
            remedy="set training.start_from to the model.safetensors of a model that you trained, or remove it",
        )
    return found.get(family) or next(iter(found.values()))
