"""A low-resolution map as it is, enlarged."""

from typing import ClassVar, Literal

from m2m.options.family import Family


class Upsampled(Family):
    """The target at low resolution, enlarged by cubic splines."""

    implementation: ClassVar[str] = "m2m.models.families.upsampled_model"
    sentence: ClassVar[str] = "the low-resolution map, enlarged by cubic splines"
    sees_low: ClassVar[bool] = True

    family: Literal["upsampled"] = "upsampled"


SECTION = Upsampled
