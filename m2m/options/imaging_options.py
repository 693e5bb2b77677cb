"""Sections about scans: tensor fit, the common grid, slices."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from m2m.options.backends import Backend, no_commands
from m2m.options.section import Fraction, Range, Section, one_of


class Mask(Section):
    """Brain mask of the diffusion series."""

    method: Literal["median_otsu", "supplied", "bet"] = Field(
        "median_otsu", description="median_otsu: DIPY's; supplied: the mask in the dataset; bet: FSL's"
    )
    median_radius: PositiveInt = Field(3, description="median_otsu: radius of the median filter, in voxels")
    passes: PositiveInt = Field(2, description="median_otsu: number of median filter passes")
    bet_fraction: Fraction = Field(0.3, description="bet: fractional intensity threshold, bet -f")

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the method calls."""
        return ("bet",) if self.method == "bet" else ()


class FitLimits(Section):
    """Limits of the numbers that a tensor fit is checked by; a series beyond one fails with a finding.

    Measured values of sound and of damaged series are in docs/methods.md.
    """

    md_median_mm2_per_s: Range = Field(
        (0.3e-3, 1.4e-3),
        description="Range of the median mean diffusivity in the brain mask, in mm2/s: tissue has 0.6e-3 to 1e-3, "
        "free water 3e-3; beyond it, b-values have another unit or scale, or volumes another order",
    )
    max_nonpositive_share: Fraction = Field(
        0.3,
        description="Maximum fraction of voxels with an eigenvalue that is not positive: noise gives up to 0.02, "
        "more with six directions, and a gradient table of another order 0.9",
    )
    min_b0_over_weighted: PositiveFloat = Field(
        1.1,
        description="Minimum ratio of the weakest b=0 volume's signal to that of the strongest volume of the highest "
        "shell: even at the lowest plausible diffusivity, b=700 s/mm2 leaves 0.8 of the signal",
    )
    min_attenuating_share: Fraction = Field(
        0.7,
        description="Minimum fraction of voxels whose signal falls from each shell to the next one: sound series have "
        "0.99, half the voxels of a series without weighting fall by chance",
    )
    max_residual_over_noise: PositiveFloat = Field(
        5.0,
        description="Maximum median residual of the fit, in units of the noise: sound series have 1 to 2.5, with "
        "uncorrected motion and eddy currents",
    )
    min_order_share: Fraction = Field(
        0.7,
        description="Minimum fraction of anisotropic voxels in which the given order of directions fits better than a "
        "random one: sound series have 0.76 to 1, chance is 0.5",
    )
    max_other_order_share: Fraction = Field(
        0.7,
        description="Maximum fraction of anisotropic voxels in which a shifted or reversed gradient table fits better "
        "than the given one: sound series have up to 0.3, tables of another order 0.76 to 1",
    )


class Dti(Section):
    """Tensor fit."""

    fit: Literal["WLS", "OLS", "NLLS", "RESTORE"] = Field("WLS", description="Method of the tensor fit")
    b0_threshold_s_per_mm2: PositiveFloat = Field(
        50.0, description="Volumes with b-values up to this count as b=0, in the checks of the cohort, too"
    )
    max_b_s_per_mm2: PositiveFloat = Field(
        1500.0, description="Shells with larger b-values, by their median, are excluded from the fit"
    )
    b_tolerance_s_per_mm2: float = Field(
        50.0,
        ge=0,
        le=200,
        description="A shell above max_b by no more than this is fitted: for 1500, scanners write 1490 to 1510",
    )
    mask: Mask = Mask()
    limits: FitLimits = FitLimits()
    low_res_factor: PositiveInt = Field(
        1,
        exclude_if=lambda value: value == 1,
        description="Factor by which k-space of the series is cropped before the fit; set by tasks",
    )


class Anat(Section):
    """T1 on the common grid: brain mask, white matter, affine to the MNI152 template."""

    spacing_mm: PositiveFloat = Field(3.0, description="Voxel size of the common grid")
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (64, 80, 64), description="Number of voxels of the common grid along each axis"
    )
    brain_volume_l: Range = Field(
        (0.7, 2.3), description="Range of plausible brain volumes; participants outside it are excluded"
    )
    doubtful_mi: NonNegativeFloat = Field(
        0.5,
        description="Mutual information of T1 and template, in nats, below which 23 other orientations of the head are "
        "tried: 0.32 to 0.46 in real T1s, 0.19 to 0.33 in wrongly oriented ones, 0.5 and more where there is no doubt",
    )
    max_rotated_mi: PositiveFloat = Field(
        1.0,
        description="Maximum mutual information that another orientation of the head reaches, relative to that of the "
        "given one; a T1 above it fails",
    )


class Deformation(Section):
    """Deformation of the template to each T1, where a model uses it.

    Settings that were tried are in docs/experiments/atlas.md.
    """

    iterations: tuple[PositiveInt, ...] = Field(
        (50, 30, 30),
        min_length=1,
        max_length=5,
        description="Maximum number of iterations of each resolution, from coarse to fine; the last one is that of the "
        "common grid, each other one half as fine as the next",
    )
    radius: PositiveInt = Field(3, le=8, description="Radius of the window of the local cross-correlation, in voxels")
    smooth_voxels: PositiveFloat = Field(
        1.5, description="Standard deviation of the Gaussian that smooths each update of the displacements, in voxels"
    )
    step_voxels: float = Field(0.25, gt=0, le=1, description="Largest displacement of an update, in voxels")
    max_folded_share: Fraction = Field(
        0.0,
        description="Maximum fraction of the brain's voxels where space is folded (a Jacobian determinant of 0 or "
        "below); above it the affine transform alone is kept",
    )


# A mapper of streamlines is a function ``(streamlines, affine, shape)`` that counts them.
MAPPERS = {
    "dipy": Backend("m2m.diffusion.density:count_map", no_commands, lambda grid: "DIPY", "DIPY"),
    "tckmap": Backend(
        "m2m.diffusion.density:count_by_tckmap",
        lambda grid: ("tckmap",),
        lambda grid: "MRtrix3 [@tournier2019]",
        "MRtrix3",
        ("tckmap",),
    ),
}
if TYPE_CHECKING:
    Mapper = str
else:
    Mapper = one_of(lambda: MAPPERS)


class Grid(Section):
    """Registration of DWI to T1, and its quality thresholds."""

    registration: Literal["rigid", "affine", "syn", "none"] = Field(
        "rigid", description="Transform from DWI to T1; syn (non-linear) needs the extra `ants`"
    )
    fa_mean: Range = Field(
        (0.10, 0.45), description="Range of plausible mean FA in the mask; participants outside it are excluded"
    )
    min_coverage: Fraction = Field(
        0.5, description="Minimum fraction of the T1's brain that the DWI covers; participants below it are excluded"
    )
    max_shift_mm: PositiveFloat = Field(
        30.0, description="Maximum displacement by the registration; participants above it are excluded"
    )
    doubtful_mi: NonNegativeFloat = Field(
        0.5,
        description="Mutual information of T1 and FA, in nats, below which a second start and 23 other orientations of "
        "the DWI are tried",
    )
    max_rotated_mi: PositiveFloat = Field(
        1.0,
        description="Maximum mutual information that another orientation of the DWI reaches, relative to that of the "
        "given one; a pair above it fails",
    )
    density: Mapper = Field("dipy", description="Program that counts streamlines per voxel: dipy or tckmap")

    @property
    def record(self) -> Backend:
        """Record of the mapper of streamlines."""
        return MAPPERS[self.density]

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the mapping of streamlines calls."""
        return self.record.commands(self)


class Slices(Section):
    """Normalisation of volumes to slices."""

    t1_range_percent: Range = Field(
        (1.0, 99.0), description="Percentiles of T1 inside the brain that are scaled to 0 and 1"
    )
