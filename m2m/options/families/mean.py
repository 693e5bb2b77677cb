"""The training people's mean map: what does not beat it knows nothing of the person."""

from typing import ClassVar, Literal

from m2m.options.family import Family


class MeanMap(Family):
    """The training cohort's mean map, carried to each person by registration to the template."""

    implementation: ClassVar[str] = "m2m.models.families.mean_model"
    sentence: ClassVar[str] = (
        "the mean map of the training people in template space, carried to each person by the "
        "affine of the T1"
    )
    reference: ClassVar[bool] = True

    family: Literal["mean"] = "mean"


SECTION = MeanMap
