"""The low-resolution map, upsampled: a baseline of super-resolution."""

from typing import ClassVar, Literal

from m2m.options.family import Family


class Upsampled(Family):
    """The target at low resolution, upsampled by cubic splines."""

    implementation: ClassVar[str] = "m2m.models.families.upsampled_model"
    sentence: ClassVar[str] = "the low-resolution map, upsampled by cubic splines"
    uses_low_res: ClassVar[bool] = True

    family: Literal["upsampled"] = "upsampled"


SECTION = Upsampled
