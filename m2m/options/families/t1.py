"""A line from source to target: what does not beat it has learned no anatomy."""

from typing import ClassVar, Literal

from m2m.options.family import Family


class RescaledT1(Family):
    """T1 mapped to the target's scale by a least-squares line inside the training brains."""

    implementation: ClassVar[str] = "m2m.models.families.t1_model"
    sentence: ClassVar[str] = (
        "the least-squares line from source to target over the training people's brains"
    )

    family: Literal["t1"] = "t1"


SECTION = RescaledT1
