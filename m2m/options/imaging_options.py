"""Sections about scans: tensor fit, the common grid, slices."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from m2m.options.backends import Backend, no_commands
from m2m.options.section import Fraction, Range, Section, one_of


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


class Anat(Section):
    """T1 to the common grid: brain mask, white matter, affine to the MNI152 template."""

    spacing_mm: PositiveFloat = 3.0
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 80, 64)
    brain_volume_l: Range = Field(
        (0.7, 2.3), description="A brain of another volume is excluded, with the reason"
    )


# A way to map streamlines is a function ``(streamlines, affine, shape)`` that counts them.
MAPPERS = {
    "dipy": Backend("m2m.diffusion.density:count_map", no_commands, lambda grid: "DIPY", "DIPY"),
    "tckmap": Backend(
        "m2m.diffusion.density:count_by_tckmap", lambda grid: ("tckmap",),
        lambda grid: "MRtrix3 [@tournier2019]", "MRtrix3", ("tckmap",),
    ),
}  # fmt: skip
Mapper = one_of(lambda: MAPPERS)


class Grid(Section):
    """Registration of DWI to T1, and what is good enough."""

    registration: Literal["rigid", "affine", "syn", "none"] = "rigid"
    fa_mean: Range = Field((0.10, 0.45), description="Of FA inside the mask")
    min_coverage: Fraction = Field(0.5, description="Part of the T1's brain that the DWI covers")
    max_shift_mm: PositiveFloat = Field(30.0, description="Largest shift of the registration")
    density: Mapper = Field("dipy", description="Maps streamlines to voxels")

    @property
    def record(self) -> Backend:
        """What is known of how streamlines are mapped."""
        return MAPPERS[self.density]

    @property
    def commands(self) -> tuple[str, ...]:
        """External programs that the mapping of streamlines calls."""
        return self.record.commands(self)


class Slices(Section):
    """Normalisation of volumes to slices."""

    t1_range_percent: Range = (1.0, 99.0)
