"""A trained model as a MONAI bundle, with its model card.

References
----------
MONAI bundles: Cardoso et al. (2022), arXiv:2211.02701, and MONAI's bundle specification.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import m2m
from m2m.io.errors import DataError
from m2m.io.files import file_digest, write_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.models.record import save_weights
from m2m.models.record_schema import public_record

STATED = "Licence of these weights:"
NO_LICENCE = "not stated: ask the authors of the model; it depends on the training data"


def card_with_tests(card: str, rows: Sequence[Mapping[str, str | None]], licence: str, notes: str = "") -> str:
    """Add the licence and the results on test participants to a model card.

    A card that has them keeps them where nothing is given.

    Parameters
    ----------
    card : str
        Model card of `m2m train`.
    rows : sequence of mapping
        Rows of the model in evaluate/<task>/summary.tsv; empty: not tested.
    licence : str
        Empty: not stated.
    notes : str
        Further tests, Markdown.

    Returns
    -------
    str
        Markdown.
    """
    if STATED in card and not (rows or licence or notes):
        return card
    before = card.partition(STATED)[0].rstrip()
    text = [before, "", f"{STATED} {licence or NO_LICENCE}.", "", "## Test", ""]
    further = [notes.strip(), ""] if notes.strip() else []
    if not rows:
        return "\n".join([*text, *(further or ["Not given: no table of an evaluation was supplied.", ""])])
    text += ["Mean over test participants, with its 95 % interval.", ""]
    text += ["| region | metric | mean | interval | participants |", "|---|---|---|---|---|"]
    for row in rows:
        interval = "n/a" if row["low"] is None else f"{row['low']} to {row['high']}"
        cells = (row["region"], row["metric"], row["mean"] or "n/a", interval, row["n_subjects"])
        text.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*text, "", *further])


def require_no_participant(text: str, record: Mapping[str, Any], path: Path) -> None:
    """Raise DataError if a text names a participant of the training or validation part.

    Parameters
    ----------
    text : str
        Of the model card.
    record : mapping
        Of the model.
    path : Path
        For the message.
    """
    known = {*record.get("train_participants", ()), *record.get("validation_participants", ())}
    if named := sorted(known & set(re.findall("sub-[A-Za-z0-9]+", text))):
        raise DataError("names participants", file=path, value=named[0], remedy="remove their identifiers from it")


def write_bundle(tensors: Mapping[str, NDArray], record: Mapping[str, Any], card: str, context: int, out: Path) -> None:
    """Write a MONAI bundle; its `run` predicts from one T1 with m2m.

    It holds no identifier of a participant and no path of this machine. Nothing of the record is in
    ``inference.json``, and what ``metadata.json`` has of it was validated: MONAI evaluates
    texts that begin with $ or %.

    Parameters
    ----------
    tensors, record : mapping
        Of `m2m.models.record.load_model`.
    card : str
        Model card, Markdown.
    context : int
        Number of neighbouring slices that are input of the network; 0: the model has no network.
    out : Path
        Folder to write.
    """
    weights = out / "models" / "model.safetensors"
    save_weights(tensors, weights)  # without the metadata that a safetensors file can hold
    before, record = record["weights"], public_record(record) | {"weights": file_digest(weights)}
    write_json(out / "models" / "model.json", record)
    inference: dict[str, Any] = {
        "imports": [
            "$from m2m.models.record import load_model",
            "$from m2m.translate.native import translate_file",
        ],
        "bundle_root": ".",
        "t1": "T1.nii.gz",
        "out": "FA.nii.gz",
        "brain": None,
        "device": "auto",
        "batch_size": 4,
        "weights": "$@bundle_root + '/models/model.safetensors'",
        "model": "$load_model(@weights, @bundle_root + '/models/model.json')",
        "run": ["$translate_file(@t1, @weights, @out, @brain, @device, @batch_size)"],
    }
    if context:
        load = {"_target_": "m2m.models.building.load_network"}
        inference["network_def"] = load | {"tensors": "$@model[0]", "record": "$@model[1]"}
    write_json(out / "configs" / "inference.json", inference)
    write_json(out / "configs" / "metadata.json", metadata(record, context))
    write_text(out / "docs" / "README.md", card.replace(before, record["weights"]))


def metadata(record: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Metadata that MONAI requires of a bundle."""
    target = MODALITIES[record["target"]]
    image = {"type": "image", "format": "magnitude", "dtype": "float32", "is_patch_data": False}
    any_size = {"spatial_shape": ["*", "*"]}
    inputs = (
        image
        | any_size
        | {
            "num_channels": context,
            "value_range": [0, 1],
            "channel_def": {str(i): f"T1, slice {i - context // 2:+d}" for i in range(context)},
        }
    )
    outputs = (
        image
        | any_size
        | {
            "num_channels": len(target.channels),
            "value_range": [],
            "channel_def": {
                str(i): f"{name}, along the axes of the volume" if target.directed else name
                for i, name in enumerate(target.channels)
            },
        }
    )
    return {
        "version": m2m.__version__,
        "changelog": {m2m.__version__: "written by m2m export"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": np.__version__,
        "required_packages_version": {"m2m": m2m.__version__},
        "task": f"{record['task']}: {target.title} from a T1-weighted image",
        "description": f"{record['model']} ({record['family']}), weights {record['weights']}",
        "authors": "the authors of the model",
        "copyright": "see docs/README.md",
        "intended_use": "research only, no clinical use",
        "network_data_format": {"inputs": {"image": inputs}, "outputs": {"pred": outputs}},
    }


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name).partition("+")[0]
