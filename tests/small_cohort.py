"""Slices of a few participants on disk, small enough for training in seconds."""

import json

import numpy as np
from scipy import ndimage

from m2m.io.files import digest, write_json
from m2m.io.tables import read_table, write_table
from m2m.options.configured import split_of
from m2m.options.families.macro2micro import Macro2Micro
from m2m.structural.slices import PLANES, write_slices

SHAPE = (25, 28, 24)
AFFINE = np.array([[6.0, 0, 0, -72], [0, 6, 0, -90], [0, 0, 6, -70], [0, 0, 0, 1]])
CHANNELS = ("t1", "fa", "brain", "target_mask")


def subject(seed, shape=SHAPE):
    """Channels (4, X, Y, Z) of a participant whose FA is a function of the T1."""
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    brain = sum(x**2 for x in places) < 0.7
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    t1 = (0.5 + 0.2 * texture / texture.std()).clip(0, 1)
    return np.stack([t1, 0.6 * t1**2, np.ones(shape), np.ones(shape)]) * brain


def write_subject(folder, unit, channels, names=CHANNELS, **record):
    """Write a unit's arrays and record, as `m2m slices` does."""
    found = write_slices(
        dict(zip(names, channels, strict=True)), {plane: folder / f"{unit}_{plane}.npy" for plane in PLANES}
    )
    write_json(
        folder / f"{unit}_slices.json",
        {
            "status": "ok",
            "excluded": [],
            "channels": list(names),
            "t1_range": [0, 1],
            "affine": AFFINE.tolist(),
            "shape": list(channels.shape[1:]),
            "spacing_mm": 6.0,
            "t1_range_percent": [1, 99],
            "grid_to_mni": np.eye(4).tolist(),
            "axes": "grid",
        }
        | found
        | record,
    )


def write_cohort(root, n_train=3, n_validation=1, shape=SHAPE):
    """Write slices and a split; the last participant is for testing."""
    folder = root / "slices"
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["train"] * n_train + ["validation"] * n_validation + ["test"]
    rows = [{"participant_id": f"sub-{i:02d}", "part": part} for i, part in enumerate(parts)]
    for seed, row in enumerate(rows):
        write_subject(folder, row["participant_id"], subject(seed, shape))
    table, record = split_of(root)
    write_table(table, rows, ["participant_id", "part"])
    write_json(record, {"hash": digest(read_table(table))})
    return {row["participant_id"]: row["part"] for row in rows}


def small_model(losses=None, **training):
    """Options of a network of a few thousand weights with both discriminators."""
    defaults = {"steps": 6, "batch_size": 4, "validate_every": 3, "checkpoint_every": 2}
    return Macro2Micro.model_validate(
        {
            "network": {"widths": [6, 8], "context": 3},
            "discriminators": {"width": 4, "crops": 2, "crop_size": 8, "every": 2},
            "losses": losses or {},
            "training": defaults | training,
        }
    )


def train_arguments(root, out, options, model="macro2micro"):
    """Arguments of `m2m train` on the participants below `root`, to write to `out`."""
    text = options if isinstance(options, str) else options.model_dump_json()
    return [
        "train",
        "--task",
        "t1-fa",
        "--model",
        model,
        "--root",
        str(root),
        "--out",
        str(out),
        "--task-options",
        json.dumps({"source": "t1", "target": "fa"}),
        "--options",
        text,
    ]
