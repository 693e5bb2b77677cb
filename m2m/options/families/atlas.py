"""A reference map, deformed to each participant: a baseline that knows the participant's anatomy only."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from m2m.options.family import Family
from m2m.options.section import DataPath


class Atlas(Family):
    """The training participants' mean map, or a given one, warped by deformable registration of T1 and template."""

    implementation: ClassVar[str] = "m2m.models.families.atlas_model"
    uses_deformation: ClassVar[bool] = True

    family: Literal["atlas"] = "atlas"
    map: DataPath | None = Field(
        None,
        description="Map in MNI152NLin2009aSym space, NIfTI, in the unit of the target, in place of the training "
        "participants' mean; for targets of one number per voxel that is not a density. Other MNI152 spaces, as FSL's, "
        "are some mm off: real/atlas.nii.gz of `snakemake real` is a group's FA registered to this one",
    )

    @property
    def given_map(self) -> Path | None:
        """As `Family.given_map`: in place of the mean."""
        return self.map

    @property
    def sentence(self) -> str:  # type: ignore[override]
        """Description for the methods: the reference map and how it is deformed."""
        origin = "the mean map of the training participants in template space"
        if self.map is not None:
            origin = "a given map in template space"
        return (
            f"{origin}, resampled to each T1 by symmetric diffeomorphic registration of T1 and template [@avants2008]"
        )

    def check_target(self, task: str, nature: str) -> None:
        """As `Family.check_target`: a given map is a scalar one."""
        if self.map is not None and nature != "scalar":
            raise ValueError(
                f"tasks.{task}: the family atlas with a map predicts scalar maps, such as FA; omit the option map for "
                f"a target that is a {nature}"
            )


SECTION = Atlas
