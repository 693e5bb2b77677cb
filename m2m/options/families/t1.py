"""A linear map from source to target intensities: a baseline without anatomical knowledge."""

from typing import ClassVar, Literal

from m2m.options.family import Family


class RescaledT1(Family):
    """T1 scaled to the target by a least-squares line over the training participants' brains."""

    implementation: ClassVar[str] = "m2m.models.families.t1_model"
    sentence: ClassVar[str] = "the least-squares line from source to target over the training participants' brains"

    family: Literal["t1"] = "t1"


SECTION = RescaledT1
