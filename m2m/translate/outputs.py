"""Files of one translated T1: outputs, and what its profiles along bundles are compared with."""

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


class ProfileInputs(NamedTuple):
    """What the synthetic profiles are compared with.

    Attributes
    ----------
    atlas : Path or None
        Map in MNI152 mm, in the unit of the target; None: the model's own, if it holds one.
    measured : tuple of Path
        Measured map in the world space of the T1, and a second measurement of it; both can be missing.
    """

    atlas: Path | None = None
    measured: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return [*self.measured, *filter(None, [self.atlas])]


class ProfileOutputs(NamedTuple):
    """Output files of the profiles along bundles.

    Attributes
    ----------
    profiles, means : Path
        Tables, with a JSON sidecar each.
    figure : Path
    """

    profiles: Path
    means: Path
    figure: Path

    @property
    def files(self) -> list[Path]:
        """All of them, with the sidecars."""
        return [*self, *(path.with_suffix(".json") for path in self[:2])]


def default_outputs(out: Path) -> Outputs:
    """Name the standard deviation and the QC figure after the map: FA_sd.nii.gz, FA.png."""
    name = _stem(out)
    extension = out.name[len(name) :]
    return Outputs(out, out.with_name(f"{name}_sd{extension}"), out.with_name(f"{name}.png"))


def profile_outputs(out: Path) -> ProfileOutputs:
    """Name the files of the profiles after the map: FA_bundles.tsv, FA_bundlemeans.tsv, FA_bundles.png."""
    ends = ("_bundles.tsv", "_bundlemeans.tsv", "_bundles.png")
    return ProfileOutputs(*(out.with_name(f"{_stem(out)}{end}") for end in ends))


def _stem(out: Path) -> str:
    return out.name.removesuffix(".gz").removesuffix(".nii")
