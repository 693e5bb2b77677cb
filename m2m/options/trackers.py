"""Section about tractography, and a record of each backend.

A backend is a function ``(field, options, threads, anatomy)`` that returns a `Tractogram`
(`m2m.diffusion.tractography.tracks`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from m2m.options.backends import Backend, no_commands
from m2m.options.section import Fraction, Range, Section, one_of

DIRECTIONS = {
    "tensor": "the tensor",
    "csa": "orientation distributions of constant solid angle [@aganj2010]",
    "csd": "constrained spherical deconvolution [@tournier2007]",
}
ALGORITHMS = {"eudx": "EuDX", "deterministic": "deterministically", "probabilistic": "probabilistically"}
FROM_T1 = "5ttgen-fsl"


def nothing_further(section: "Tractography") -> dict[str, str]:
    """Further files of a backend that needs none."""
    return {}


@dataclass(frozen=True)
class Tracker(Backend):
    """Record of one tractography backend.

    Attributes
    ----------
    minutes : int
        Time limit for one participant.
    scans : callable
        Further inputs among a participant's scans: from the stage's flag to a column of units.tsv.
    files : callable
        Further inputs by path, with {folder} and {unit}: from the stage's flag to the path.
    outputs : callable
        Further outputs: from the stage's flag to the kind of file.
    """

    minutes: int = 60
    scans: Callable[["Tractography"], Mapping[str, str]] = nothing_further
    files: Callable[["Tractography"], Mapping[str, str]] = nothing_further
    outputs: Callable[["Tractography"], Mapping[str, str]] = nothing_further


def dipy_sentence(section: "Tractography") -> str:
    """Describe the tracking with DIPY, for the methods."""
    dipy = section.dipy
    return f"by DIPY [@garyfallidis2014], {ALGORITHMS[dipy.algorithm]}, along directions of {DIRECTIONS[dipy.model]}"


def mrtrix3_commands(section: "Tractography") -> tuple[str, ...]:
    """Programs of MRtrix3, and of FSL for ACT, that the options need."""
    mrtrix = section.mrtrix3
    return (
        "tckgen",
        *(() if mrtrix.algorithm == "Tensor_Det" else ("dwi2response", "dwi2fod")),
        *(("5ttgen", "fast") if mrtrix.five_tissue == FROM_T1 else ()),
        *(("tcksift2",) if mrtrix.sift2 else ()),
    )


def mrtrix3_sentence(section: "Tractography") -> str:
    """Describe the tracking with MRtrix3, for the methods."""
    mrtrix = section.mrtrix3
    text = f"by MRtrix3 [@tournier2019], {mrtrix.algorithm}"
    if mrtrix.algorithm != "Tensor_Det":
        text += f", along fibre orientations by {DIRECTIONS['csd']} with the response of "
        text += f"{mrtrix.response}"
    if mrtrix.five_tissue:
        text += ", constrained by the anatomy [@smith2012]"
    return text + (", with weights by SIFT2 [@smith2015]" if mrtrix.sift2 else "")


def scans_for_act(section: "Tractography") -> dict[str, str]:
    """The T1, where the 5TT image is computed from it."""
    return {"t1w": "t1w"} if section.mrtrix3.five_tissue == FROM_T1 else {}


def files_for_act(section: "Tractography") -> dict[str, str]:
    """A participant's 5TT image, where there is one."""
    path = section.mrtrix3.five_tissue
    return {"five_tissue": path} if path and path != FROM_T1 else {}


def weights_of_sift2(section: "Tractography") -> dict[str, str]:
    """SIFT2's weights, where they are computed."""
    return {"weights": "sift2-weights"} if section.mrtrix3.sift2 else {}


TRACKERS = {
    "dipy": Tracker(
        "m2m.diffusion.tractography.dipy_backend:track",
        no_commands,
        dipy_sentence,
        "DIPY",
        minutes=60,
    ),
    "mrtrix3": Tracker(
        "m2m.diffusion.tractography.mrtrix_backend:track",
        mrtrix3_commands,
        mrtrix3_sentence,
        "MRtrix3",
        ("tckgen", "dwi2response", "dwi2fod", "5ttgen", "tcksift2"),
        "mrtrix3",
        minutes=720,
        scans=scans_for_act,
        files=files_for_act,
        outputs=weights_of_sift2,
    ),
}
if TYPE_CHECKING:
    TrackerName = str
else:
    TrackerName = one_of(lambda: TRACKERS)


class DipyTracking(Section):
    """Tracking with DIPY."""

    model: Literal["tensor", "csa", "csd"] = Field("tensor", description="Model of local fibre directions")
    algorithm: Literal["eudx", "deterministic", "probabilistic"] = Field("eudx", description="Tracking algorithm")
    sh_order: Literal[4, 6, 8] = Field(
        6, description="csa and csd: maximum order of spherical harmonics; lower where there are few directions"
    )


class MrtrixTracking(Section):
    """Tracking with MRtrix3."""

    algorithm: Literal["iFOD2", "SD_STREAM", "Tensor_Det"] = Field("iFOD2", description="Tracking algorithm of tckgen")
    response: Literal["tournier", "dhollander"] = Field(
        "tournier",
        description="Algorithm of dwi2response; dhollander: multi-tissue, for data with several shells",
    )
    fod_cutoff: PositiveFloat = Field(0.05, description="FOD amplitude below which streamlines end")
    five_tissue: str | None = Field(
        None,
        description="For ACT: path of the 5TT image in DWI space, with {folder} and {unit}; "
        "5ttgen-fsl: computed from the T1 with FSL; null: no ACT",
    )
    sift2: bool = Field(
        False,
        description="Whether to save SIFT2's weights of streamlines; tract density does not use them",
    )


class Tractography(Section):
    """Whole-brain streamlines, seeded in every voxel of white matter."""

    backend: TrackerName = Field("dipy", description="Software of the tracking: dipy or mrtrix3")
    dipy: DipyTracking = DipyTracking()
    mrtrix3: MrtrixTracking = MrtrixTracking()
    seeds_per_voxel: PositiveInt = Field(2, description="Seeds per voxel, at random positions")
    seed_fa: Fraction = Field(0.2, description="Minimum FA of seeded voxels")
    stop_fa: Fraction = Field(0.15, description="FA below which streamlines end")
    step_mm: PositiveFloat = Field(1.0, description="Step between points of a streamline")
    max_angle_deg: PositiveFloat = Field(45.0, description="Maximum angle between two steps")
    length_mm: Range = Field((30.0, 250.0), description="Range of lengths; other streamlines are discarded")
    seed: NonNegativeInt = Field(1, description="Random seed")
    format: Literal["trx", "tck"] = Field(
        "trx", description="Format of the files of streamlines: trx, as DIPY writes and BIDS drafts, or MRtrix3's tck"
    )

    @property
    def record(self) -> Tracker:
        """Record of the chosen backend."""
        return TRACKERS[self.backend]

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the backend calls."""
        return self.record.commands(self)
