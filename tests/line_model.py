"""The smallest model, a line from T1 to FA, and a function that runs a command of m2m."""

import numpy as np
from typer.testing import CliRunner

from m2m.cli import app
from m2m.io.modalities import MODALITIES
from m2m.models.record import Fit, save_model

SHAPE = (23, 27, 21)
UNCERTAINTY = {
    "method": "constant",
    "factors": {"constant": 0.07},
    "nll": {"constant": 0.0},
    "part": "validation",
    "n_subjects": 1,
}


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def write_line(folder, intercept=0.0, slope=1.0, **changes):
    """Write a model of family t1 to a folder; `changes` are made to its record."""
    record = {
        "task": "t1-fa",
        "model": "t1",
        "family": "t1",
        "options": {},
        "source": "t1",
        "target": "fa",
        "spacing_mm": 3.0,
        "shape": list(SHAPE),
        "t1_range_percent": [0, 100],
        "n_train": 2,
        "n_validation": 0,
        "split_hash": "s",
        "data_hash": "d",
        "code_version": "0",
        "fingerprint": "f",
    } | changes
    n_channels = len(MODALITIES[record["target"]].channels)
    tensors = {"intercept": np.zeros(n_channels) + intercept, "slope": np.zeros(n_channels) + slope}
    fit, names = Fit(tensors, None, UNCERTAINTY), ("model.safetensors", "model.json", "card.md")
    save_model(fit, record, *(folder / name for name in names))
    return folder / "model.safetensors"
