"""Checks of slices on disk before a model is trained on them: their axes, their low resolution."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from m2m.diffusion.lowres import described, low_res_grid
from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.structural.slices import GRID_AXES


def require_grid_axes(path: Path, record: Mapping[str, Any], target: str) -> None:
    """Raise DataError if slices hold tensors along world axes, as earlier versions cut them."""
    if MODALITIES[target].directed and record.get("axes") != GRID_AXES:
        raise DataError(
            "slices of tensors along world axes, cut by an earlier version of m2m; now they are along the grid's",
            file=path,
            remedy="run `m2m slices` again",
        )


def require_box(path: Path, record: Mapping[str, Any]) -> None:
    """Raise DataError if slices hold the whole grid, as earlier versions cut them."""
    if "box" not in record:
        raise DataError(
            "slices of the whole grid, cut by an earlier version of m2m; now they hold the brain's box",
            file=path,
            remedy="run `m2m slices`, or `m2m simulate-low-res`, again",
        )


def require_factor(low_res: Path, found: int, factor: int | None, record: Mapping[str, Any]) -> None:
    """Raise DataError if slices have another low resolution than the task; both grids are named."""
    if found != factor:
        on_grid = np.array(record["affine"]), record["shape"]
        made, asked = (described(*low_res_grid(*on_grid, r)) for r in (found, factor or 1))
        raise DataError(
            f"low-resolution slices of factor {found}, {made}; the task needs slices of factor {factor}, {asked}",
            file=low_res,
            remedy="give --low-res-dir of the task's factor",
        )
