"""Section about streamlines, and a record of each backend that draws them.

A backend is a function ``(field, options, threads, anatomy)`` that gives a `Tractogram`
(`m2m.diffusion.tractography.tracks`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from m2m.options.backends import Backend, no_commands
from m2m.options.section import Fraction, Range, Section, one_of

DIRECTIONS = {
    "tensor": "the tensor", "csa": "orientation distributions of constant solid angle [@aganj2010]",
    "csd": "constrained spherical deconvolution [@tournier2007]",
}  # fmt: skip
ALGORITHMS = {
    "eudx": "EuDX", "deterministic": "deterministically", "probabilistic": "probabilistically",
}  # fmt: skip
FROM_T1 = "5ttgen-fsl"


def nothing_further(section: "Tractography") -> dict[str, str]:
    """Further files of a backend that has none."""
    return {}


@dataclass(frozen=True)
class Tracker(Backend):
    """What is known of one way to track.

    Attributes
    ----------
    minutes : int
        What a person may take.
    scans : callable
        Further inputs among a person's scans: column of units.tsv by the flag of the stage.
    files : callable
        Further inputs by path, with {folder} and {unit}, by the flag of the stage.
    outputs : callable
        Further outputs: kind of file by the flag of the stage.
    """

    minutes: int = 60
    scans: Callable[["Tractography"], Mapping[str, str]] = nothing_further
    files: Callable[["Tractography"], Mapping[str, str]] = nothing_further
    outputs: Callable[["Tractography"], Mapping[str, str]] = nothing_further


def dipy_sentence(section: "Tractography") -> str:
    """Say how DIPY drew streamlines."""
    dipy = section.dipy
    return (
        f"by DIPY [@garyfallidis2014], {ALGORITHMS[dipy.algorithm]}, along directions of "
        f"{DIRECTIONS[dipy.model]}"
    )


def mrtrix3_commands(section: "Tractography") -> tuple[str, ...]:
    """Programs of MRtrix3, and of FSL for ACT, by what is chosen."""
    mrtrix = section.mrtrix3
    return (
        "tckgen",
        *(() if mrtrix.algorithm == "Tensor_Det" else ("dwi2response", "dwi2fod")),
        *(("5ttgen", "fast") if mrtrix.five_tissue == FROM_T1 else ()),
        *(("tcksift2",) if mrtrix.sift2 else ()),
    )


def mrtrix3_sentence(section: "Tractography") -> str:
    """Say how MRtrix3 drew streamlines."""
    mrtrix = section.mrtrix3
    text = f"by MRtrix3 [@tournier2019], {mrtrix.algorithm}"
    if mrtrix.algorithm != "Tensor_Det":
        text += f", along fibre orientations by {DIRECTIONS['csd']} with the response of "
        text += f"{mrtrix.response}"
    if mrtrix.five_tissue:
        text += ", constrained by the anatomy [@smith2012]"
    return text + (", with weights by SIFT2 [@smith2015]" if mrtrix.sift2 else "")


def scans_for_act(section: "Tractography") -> dict[str, str]:
    """The T1, where the 5TT image is made from it."""
    return {"t1w": "t1w"} if section.mrtrix3.five_tissue == FROM_T1 else {}


def files_for_act(section: "Tractography") -> dict[str, str]:
    """A person's 5TT image, where there is one."""
    path = section.mrtrix3.five_tissue
    return {"five_tissue": path} if path and path != FROM_T1 else {}


def weights_of_sift2(section: "Tractography") -> dict[str, str]:
    """SIFT2's weights, where they are wanted."""
    return {"weights": "sift2-weights"} if section.mrtrix3.sift2 else {}


TRACKERS = {
    "dipy": Tracker(
        "m2m.diffusion.tractography.dipy_backend:track", no_commands, dipy_sentence, "DIPY",
        minutes=60,
    ),
    "mrtrix3": Tracker(
        "m2m.diffusion.tractography.mrtrix_backend:track", mrtrix3_commands, mrtrix3_sentence,
        "MRtrix3",
        ("tckgen", "dwi2response", "dwi2fod", "5ttgen", "tcksift2"), "mrtrix3", minutes=720,
        scans=scans_for_act, files=files_for_act, outputs=weights_of_sift2,
    ),
}  # fmt: skip
TrackerName = one_of(lambda: TRACKERS)


class DipyTracking(Section):
    """Tracking with DIPY."""

    model: Literal["tensor", "csa", "csd"] = Field("tensor", description="Of local directions")
    algorithm: Literal["eudx", "deterministic", "probabilistic"] = "eudx"
    sh_order: Literal[4, 6, 8] = Field(6, description="csa and csd; less where directions are few")


class MrtrixTracking(Section):
    """Tracking with MRtrix3."""

    algorithm: Literal["iFOD2", "SD_STREAM", "Tensor_Det"] = "iFOD2"
    response: Literal["tournier", "dhollander"] = Field(
        "tournier", description="dhollander: multi-tissue, where there are several shells"
    )
    fod_cutoff: PositiveFloat = Field(0.05, description="Least FOD amplitude")
    five_tissue: str | None = Field(
        None, description="ACT: 5TT image in DWI space, with {folder} and {unit}; or 5ttgen-fsl"
    )
    sift2: bool = Field(False, description="Save SIFT2's weights; densities count alike")


class Tractography(Section):
    """Whole-brain streamlines, seeded in every voxel of white matter."""

    backend: TrackerName = "dipy"
    dipy: DipyTracking = DipyTracking()
    mrtrix3: MrtrixTracking = MrtrixTracking()
    seeds_per_voxel: PositiveInt = Field(2, description="At random places")
    seed_fa: Fraction = Field(0.2, description="Seeds lie where FA is higher")
    stop_fa: Fraction = Field(0.15, description="Streamlines end where FA is lower")
    step_mm: PositiveFloat = Field(1.0, description="Between points")
    max_angle_deg: PositiveFloat = Field(45.0, description="Between steps")
    length_mm: Range = Field((30.0, 250.0), description="Others are dropped")
    seed: NonNegativeInt = 1

    @property
    def record(self) -> Tracker:
        """What is known of the chosen backend."""
        return TRACKERS[self.backend]

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the backend calls."""
        return self.record.commands(self)
