"""Sections about continuous fields, their rendering, and the report."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from m2m.options.section import NO_BOOTSTRAP, DataPath, Section


class SliceField(Section):
    """A continuous field fitted to one participant's slices of three orientations."""

    every: PositiveInt = Field(1, description="Use one of this many slices; 1: all slices")
    thickness_mm: NonNegativeFloat = Field(
        0.0, description="Slice thickness, full width at half maximum; 0: a slice is an infinitely thin plane"
    )
    spacings: tuple[PositiveFloat, ...] = Field(
        (1.2, 1.4, 1.7, 2.0, 2.4, 3.3, 4.7, 6.7, 9.3),
        min_length=1,
        description="Distance between nodes of each feature grid, in pixels of the slices",
    )
    features: PositiveInt = Field(4, description="Number of features of each grid")
    hidden: tuple[PositiveInt, ...] = Field((32,), description="Widths of the hidden layers of the perceptron")
    table_rows: PositiveInt = Field(
        1 << 21, description="Rows of the table of each grid; grids with more nodes are hashed"
    )
    bending: NonNegativeFloat = Field(
        0.0125,
        description="Weight of the bending penalty (second derivatives, in pixels): smoothness between slices",
    )
    steps: PositiveInt = Field(400, description="Optimiser steps")
    batch_size: PositiveInt = Field(8192, description="Pixels per step")
    learning_rate: PositiveFloat = Field(
        1e-2, description="Learning rate of the grids; other parameters have one fifth of it"
    )
    seed: NonNegativeInt = Field(1, description="Random seed")


class HeldOut(Section):
    """Slices held out from fields of measured maps, for the comparison with interpolation."""

    renamed: ClassVar[Mapping[str, str]] = {"people": "subjects"}

    subjects: PositiveInt = Field(
        2,
        exclude=True,  # further participants do not change the results of the others
        description="Number of test participants (the first ones) for this comparison; their views are also shown",
    )
    every: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (2, 4, 8), min_length=1, description="Slice gaps to compare: one of this many slices is given to the field"
    )


class Render(Section):
    """Views of a field: opacity and camera."""

    threshold: NonNegativeFloat = Field(0.5, description="Scaled density below which the field is transparent")
    opacity_per_mm: PositiveFloat = Field(
        0.6, description="Extinction per mm for each unit of scaled density above the threshold"
    )
    step_mm: PositiveFloat = Field(1.5, description="Step along a ray")
    width_mm: PositiveFloat = Field(185.0, description="Width of the square view")
    pixels: PositiveInt = Field(300, description="Pixels along each side of the view")
    gamma: PositiveFloat = Field(0.7, description="Gamma of the brightness; below 1, dark regions become brighter")
    frames: PositiveInt = Field(36, description="Number of frames of the turntable animation")
    elevation_deg: float = Field(15.0, description="Elevation of the turntable's camera")
    stills: tuple[tuple[float, float], ...] = Field(
        ((270.0, 0.0), (180.0, 0.0), (0.0, 90.0), (0.0, -90.0)),
        min_length=1,
        description="Azimuth and elevation, in degrees, of each still view; default: left, front, above, below",
    )


class Report(Section):
    """Figures and the page."""

    removed: ClassVar[Mapping[str, str]] = dict.fromkeys(("band_resamples", "seed"), NO_BOOTSTRAP)

    title: str = Field("m2m", description="Title of the report pages")
    max_subject_pages: PositiveInt = Field(60, description="Maximum number of participants with their own section")
    max_page_mb: PositiveFloat = Field(
        10.0,
        description="Largest size of a page in MB; the viewer's data, then the images of a larger one are in a folder "
        "beside it",
    )
    watts_per_core: PositiveFloat = Field(
        12.0,
        description="Power of a busy core in W, for the estimate of the energy: a processor's thermal design power "
        "divided by its cores (Lannelongue et al. 2021 take 12 for one that they do not know)",
    )
    viewer_subjects: NonNegativeInt = Field(
        3,
        description="Number of test participants in the page's image viewer, evenly spaced from the best to the "
        "worst; 0: no viewer",
    )
    viewer_spacing_mm: PositiveFloat = Field(
        2.0, description="Smallest voxel size in the viewer; finer maps are downsampled to it"
    )
    viewer_streamlines: PositiveInt = Field(1500, description="Number of streamlines in the viewer, per tractogram")
    viewer_bundle: DataPath | None = Field(
        None, description="Path of dist/index.js of the npm package @niivue/niivue; null: the one in ipyniivue"
    )
