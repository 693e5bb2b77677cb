"""Metrics of real pairs as Markdown: a table for each participant."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m2m.io.modalities import MODALITIES

# Heading, metric, and the regions whose values stand in a cell: the second one in brackets.
CELLS = (
    ("r", "pearson", ("brain", "wm")),
    ("SSIM", "ssim", ("brain", "wm")),
    ("PSNR, dB", "psnr", ("brain", "wm")),
    ("MAE", "mae", ("brain", "wm")),
    ("bias", "bias", ("brain", "wm")),
    ("V1 angle, degrees", "v1_angle", ("brain", "wm")),
    ("regions: r", "pearson", ("rois",)),
    ("concordance", "concordance", ("rois",)),
    ("bundles: r", "pearson", ("bundles",)),
    ("MAE", "mae", ("bundles",)),
)
# Decimals of what is no fraction.
DIGITS = {"psnr": 2, "v1_angle": 1}
ABOUT = (
    "`snakemake real`: measured {map} of {n} on a grid of {spacing:g} mm, and maps of it from the T1. Images are of "
    "{image}. The brain where it was measured; white matter in brackets. *line*: scaled by the least-squares line "
    "fitted to the other participants. *constant*: mean of the other participants. *second-measurement*: that of "
    "another series of the participant, registered to the T1 by itself. *map-without-error*: what the map that both "
    "measure would reach against the first, by how far they differ. *regions*, *bundles*: means of the image. Case "
    "studies: a handful of participants gives no interval."
)


def markdown(rows: Sequence[Mapping[str, Any]], spacing_mm: float, target: str) -> str:
    """Write metrics as a table for each participant.

    Parameters
    ----------
    rows : sequence of mapping
        unit, map, region, metric, value.
    spacing_mm : float
        Of the common grid.
    target : str
        Modality that is compared.

    Returns
    -------
    str
        Markdown. Columns that no participant has, such as of bundles where none were given, are left out.
    """
    values = {(row["unit"], row["map"], row["region"], row["metric"]): row["value"] for row in rows}
    there = {(row["region"], row["metric"]) for row in rows}
    cells = [cell for cell in CELLS if (cell[2][0], cell[1]) in there]
    units = list(dict.fromkeys(row["unit"] for row in rows))
    number = f"{len(units)} participant" + "s" * (len(units) != 1)
    modality = MODALITIES[target]
    assert modality.display is not None, "every target is displayed"
    lines = [ABOUT.format(map=modality.title, n=number, spacing=spacing_mm, image=modality.display.scale)]
    for unit in units:
        lines += ["", f"## {unit}", "", "| map | " + " | ".join(cell[0] for cell in cells) + " |"]
        lines.append("|" + "---|" * (1 + len(cells)))
        for name in dict.fromkeys(row["map"] for row in rows if row["unit"] == unit):
            found = [
                _cell(metric, [values.get((unit, name, region, metric), np.nan) for region in of])
                for _, metric, of in cells
            ]
            lines.append(f"| {name} | " + " | ".join(found) + " |")
    return "\n".join(lines) + "\n"


def _cell(metric: str, values: Sequence[float]) -> str:
    """``.672 (.640)``; a constant has no correlation."""
    if np.isnan(values[0]):
        return "-"
    digits = DIGITS.get(metric, 3)
    first, *more = (f"{value:.{digits}f}" for value in values)
    texts = [text if metric in DIGITS else text.replace("0.", ".", 1) for text in (first, *more)]
    return texts[0] + "".join(f" ({text})" for text in texts[1:])
