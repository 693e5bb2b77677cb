"""Output files of one translated T1."""

from pathlib import Path
from typing import NamedTuple


class Outputs(NamedTuple):
    """Output files of one T1.

    Attributes
    ----------
    image, sd, figure : Path
        Map, its standard deviation, and QC figure.
    """

    image: Path
    sd: Path
    figure: Path


def default_outputs(out: Path) -> Outputs:
    """Name the standard deviation and the QC figure after the map: FA_sd.nii.gz, FA.png."""
    name = out.name.removesuffix(".gz").removesuffix(".nii")
    extension = out.name[len(name) :]
    return Outputs(out, out.with_name(f"{name}_sd{extension}"), out.with_name(f"{name}.png"))
