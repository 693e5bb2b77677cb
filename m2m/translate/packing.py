"""A trained model as the weights that m2m is installed with: half precision, record, model card and licence.

`m2m.models.pretrained` finds such a folder in ``m2m/weights/``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from m2m.io.errors import DataError
from m2m.io.files import file_digest, whole, write_json, write_text
from m2m.io.tables import write_table
from m2m.models.onnx_engine import GRAPH
from m2m.models.onnx_graph import write_graph
from m2m.models.record import HALF
from m2m.models.record_schema import public_record

# Size of the weights of one task at most, and what is left of it to the files beside them.
MOST_BYTES, FURTHER_BYTES = 4_000_000, 400_000
# Values of a tensor that is stored as it is: an affine in half precision would move a map by parts of a voxel.
FEW = 16
FILES = ("model.safetensors", "model.json", "model_card.md", "LICENSE", "summary.tsv", GRAPH)
LICENCE = """The weights of {model} ({task}) in this folder: {licence}.

{about}This is the licence of the files in this folder alone. m2m itself is Apache-2.0.
"""


def halved(tensors: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Round tensors to half precision, all but whole numbers and those of few values.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Finite.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    DataError
        A value is beyond the range of half precision.
    """
    found = {}
    for name, tensor in tensors.items():
        large = np.issubdtype(tensor.dtype, np.floating) and tensor.size > FEW
        if large and np.abs(tensor).max() > np.finfo(HALF).max:
            raise DataError(
                f"the weights {name} exceed the range of half precision",
                value=f"{np.abs(tensor).max():g}, at most {np.finfo(HALF).max:g}",
                remedy="export the model as a bundle: --format monai",
            )
        found[name] = np.ascontiguousarray(tensor.astype(HALF) if large else tensor)
    return found


def licence_text(record: Mapping[str, Any], given: str) -> str:
    """Text of the licence's file: the given one, or one that names the licence of the record.

    Raises
    ------
    DataError
        Neither states under which licence the weights are.
    """
    if given.strip():
        return given
    if not record.get("licence"):
        raise DataError(
            "weights that are passed on need a licence",
            remedy="give --licence, or its text with --licence-file; it depends on the training data",
        )
    about = f"{sentence[0].upper()}{sentence[1:]}.\n\n" if (sentence := record.get("trained_on")) else ""
    return LICENCE.format(**dict(record) | {"about": about})


def write_weights(
    tensors: Mapping[str, NDArray],
    record: Mapping[str, Any],
    card: str,
    licence: str,
    rows: Sequence[Mapping[str, str | None]],
    out: Path,
) -> dict[str, Any]:
    """Write the folder: weights, record, card, LICENSE, summary.tsv if there are tests, model.onnx of a network.

    The record has no identifier of a participant and no path of this machine.

    Parameters
    ----------
    tensors, record : mapping
        Of `m2m.models.record.load_model`.
    card : str
        Model card, Markdown; the hash of the weights in it becomes that of the file.
    licence : str
        Text of the licence's file.
    rows : sequence of mapping
        Of the model in summary.tsv; empty: not tested.
    out : Path
        Folder to write.

    Returns
    -------
    dict
        The record as written.

    Raises
    ------
    DataError
        The weights are larger than `MOST_BYTES`, or exceed the range of half precision; or as of `write_graph`.
    """
    content = save(halved(tensors))
    size, most = len(content), MOST_BYTES - FURTHER_BYTES
    if size > most:
        raise DataError(
            "the weights are too large to be installed with m2m",
            file=out,
            value=f"{size / 1e6:.3g} MB in half precision, at most {most / 1e6:.3g} MB",
            remedy="train a smaller network, or export it as a bundle: --format monai",
        )
    weights, about, page, terms, tests, _ = (out / name for name in FILES)
    with whole(weights) as temporary:
        temporary.write_bytes(content)
    public = public_record(record) | {"weights": file_digest(weights)}
    write_json(about, public)
    write_text(page, card.replace(record["weights"], public["weights"]))
    write_text(terms, licence)
    tests.unlink(missing_ok=True)  # of an earlier model
    if rows:
        write_table(tests, rows, list(rows[0]))
    write_graph(weights, about)
    return public
