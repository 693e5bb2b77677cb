"""Sections about continuous fields, their pictures, and the report."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from m2m.options.section import DataPath, Section


class SliceField(Section):
    """A continuous field fitted to one person's slices of three orientations."""

    every: PositiveInt = Field(1, description="Each so many slices are kept; 1: all")
    thickness_mm: NonNegativeFloat = Field(
        0.0, description="Of a slice, full width at half maximum; 0: it samples a plane"
    )
    spacings: tuple[PositiveFloat, ...] = Field(
        (1.2, 1.4, 1.7, 2.0, 2.4, 3.3, 4.7, 6.7, 9.3),
        min_length=1,
        description="Of the nodes of the grids of features, in pixels of the slices",
    )
    features: PositiveInt = Field(4, description="Of each grid")
    hidden: tuple[PositiveInt, ...] = Field((32,), description="Widths of the perceptron")
    table_rows: PositiveInt = Field(1 << 21, description="Grids with more nodes are hashed")
    bending: NonNegativeFloat = Field(
        0.0125, description="Weight of second derivatives by pixels: smoothness between slices"
    )
    steps: PositiveInt = 400
    batch_size: PositiveInt = Field(8192, description="Pixels in each step")
    learning_rate: PositiveFloat = Field(1e-2, description="Of the grids; a fifth elsewhere")
    seed: NonNegativeInt = 1


class HeldOut(Section):
    """Slices that fields of measured maps must guess, for the comparison with interpolation."""

    people: PositiveInt = Field(
        2,
        exclude=True,  # whoever joins them changes nothing for the others
        description="Test people, the first ones; their views are shown, too",
    )
    every: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (2, 4, 8), min_length=1, description="Slices of which one is kept"
    )


class Render(Section):
    """Views of a field: what absorbs, and the camera."""

    threshold: NonNegativeFloat = Field(
        0.5, description="Of the scaled density: what lies below is not seen"
    )
    opacity_per_mm: PositiveFloat = Field(
        0.6, description="Extinction for each unit of scaled density above the threshold"
    )
    step_mm: PositiveFloat = Field(1.5, description="Along a ray")
    width_mm: PositiveFloat = Field(185.0, description="Of the square picture")
    pixels: PositiveInt = Field(300, description="Along each side of the picture")
    gamma: PositiveFloat = Field(0.7, description="Below 1: dark places are brightened")
    frames: PositiveInt = Field(36, description="Of the turntable")
    elevation_deg: float = Field(15.0, description="Of the turntable's camera")
    stills: tuple[tuple[float, float], ...] = Field(
        ((270.0, 0.0), (180.0, 0.0), (0.0, 90.0), (0.0, -90.0)),
        min_length=1,
        description="Azimuth and elevation of still views: here left, front, above, below",
    )


class Report(Section):
    """Figures and the page."""

    title: str = "m2m"
    max_subject_pages: PositiveInt = 60
    band_resamples: PositiveInt = Field(1000, description="Bootstrap of the bands in figures")
    viewer_subjects: NonNegativeInt = Field(
        3, description="Test people in the page's viewer, from the best to the worst; 0: no viewer"
    )
    viewer_spacing_mm: PositiveFloat = Field(2.0, description="Finer maps are made coarser for it")
    viewer_streamlines: PositiveInt = Field(1500, description="In the viewer, of each tractogram")
    viewer_bundle: DataPath | None = Field(
        None, description="dist/index.js of npm's @niivue/niivue; null: that of ipyniivue"
    )
    seed: int = 1
