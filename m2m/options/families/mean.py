"""The training participants' mean map: a baseline without information about the participant."""

from typing import ClassVar, Literal

from m2m.options.family import Family


class MeanMap(Family):
    """The training participants' mean map, warped to each participant by registration to the template."""

    implementation: ClassVar[str] = "m2m.models.families.mean_model"
    sentence: ClassVar[str] = (
        "the mean map of the training participants in template space, resampled to each T1 by its affine transform"
    )
    reference: ClassVar[bool] = True

    family: Literal["mean"] = "mean"


SECTION = MeanMap
