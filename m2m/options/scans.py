"""Sections about scans: corrections, tensor fit, tractography, the common grid."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from m2m.options.base import Fraction, Range, Section


class Preprocess(Section):
    """Corrections of the diffusion series before the fit."""

    chain: Literal["none", "mrtrix3", "fsl"] = "none"
    denoise: bool = Field(True, description="dwidenoise; chain mrtrix3")
    degibbs: bool = Field(True, description="mrdegibbs; chain mrtrix3")
    eddy: bool = Field(True, description="dwifslpreproc, which needs FSL; chain mrtrix3")
    bias: bool = Field(False, description="dwibiascorrect; chain mrtrix3")
    bias_algorithm: Literal["ants", "fsl"] = Field("ants", description="What it needs installed")
    phase_encoding: str = Field("AP", pattern="^(AP|PA|LR|RL|IS|SI)$")
    readout_s: PositiveFloat = 0.05
    bet_fraction: Fraction = Field(0.3, description="bet -f for eddy's mask; chain fsl")

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the chain calls."""
        if self.chain == "none":
            return ()
        if self.chain == "fsl":
            return ("bet", "eddy")
        n4_or_fast = {"ants": "N4BiasFieldCorrection", "fsl": "fast"}[self.bias_algorithm]
        return (
            "mrconvert",
            *(("dwidenoise",) if self.denoise else ()),
            *(("mrdegibbs",) if self.degibbs else ()),
            *(("dwifslpreproc", "eddy") if self.eddy else ()),
            *(("dwibiascorrect", n4_or_fast) if self.bias else ()),
        )


class Mask(Section):
    """Brain mask of the diffusion series."""

    method: Literal["median_otsu", "supplied", "bet"] = "median_otsu"
    median_radius: PositiveInt = 3
    passes: PositiveInt = 2
    bet_fraction: Fraction = 0.3

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the method calls."""
        return ("bet",) if self.method == "bet" else ()


class Dti(Section):
    """Tensor fit."""

    fit: Literal["WLS", "OLS", "NLLS", "RESTORE"] = "WLS"
    b0_threshold_s_per_mm2: PositiveFloat = 50.0
    max_b_s_per_mm2: PositiveFloat = Field(
        1500.0, description="Shells above are left out of the fit"
    )
    mask: Mask = Mask()
    low_ratio: PositiveInt = Field(
        1,
        exclude_if=lambda value: value == 1,
        description="Crop k-space of the series by this ratio before the fit; tasks set it",
    )


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

    backend: Literal["dipy", "mrtrix3"] = "dipy"
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
    def commands(self) -> tuple[str, ...]:
        """External programs that the backend calls."""
        if self.backend == "dipy":
            return ()
        tensor = self.mrtrix3.algorithm == "Tensor_Det"
        five_tissue = ("5ttgen", "fast") if self.mrtrix3.five_tissue == "5ttgen-fsl" else ()
        return (
            "tckgen",
            *(() if tensor else ("dwi2response", "dwi2fod")),
            *five_tissue,
            *(("tcksift2",) if self.mrtrix3.sift2 else ()),
        )


class Anat(Section):
    """T1 to the common grid: brain mask, white matter, affine to the MNI152 template."""

    spacing_mm: PositiveFloat = 3.0
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 80, 64)
    brain_volume_l: Range = Field(
        (0.7, 2.3), description="A brain of another volume is excluded, with the reason"
    )


class Grid(Section):
    """Registration of DWI to T1, and what is good enough."""

    registration: Literal["rigid", "affine", "syn", "none"] = "rigid"
    fa_mean: Range = Field((0.10, 0.45), description="Of FA inside the mask")
    min_coverage: Fraction = Field(0.5, description="Part of the T1's brain that the DWI covers")
    max_shift_mm: PositiveFloat = Field(30.0, description="Largest shift of the registration")
    density: Literal["dipy", "tckmap"] = Field("dipy", description="Maps streamlines to voxels")

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the mapping of streamlines calls."""
        return ("tckmap",) if self.density == "tckmap" else ()


class Slices(Section):
    """Normalisation of volumes to slices."""

    t1_range_percent: Range = (1.0, 99.0)
