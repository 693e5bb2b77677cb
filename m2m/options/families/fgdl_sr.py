"""Super-resolution of FGDL (https://doi.org/10.1109/TMI.2024.3445969)."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.families.fgdl_cms import FgdlCms, FgdlLosses, ProjectionJudge
from m2m.options.family import Family, Weighted
from m2m.options.model_parts import Perceptual
from m2m.options.section import Name
from m2m.options.training_options import Odd, SliceWindow, Weight


class SuperResolver(SliceWindow):
    """Stages of a super-resolution; it sees what its synthesis sees."""

    context: Odd = Field(1, description="Neighbouring slices seen, an odd number")
    width: PositiveInt = Field(48, description="Channels of every stage")
    heads: PositiveInt = Field(2, description="Of the attention, in twice as many channels")
    blocks: PositiveInt = Field(2, description="Of each stage")
    expansion: PositiveFloat = Field(2.66, description="Of the feed-forward's channels")

    @model_validator(mode="after")
    def _heads_divide_the_channels(self) -> Self:
        if 2 * self.width % self.heads:
            raise ValueError(
                f"network: {2 * self.width} channels cannot be divided among {self.heads} heads"
            )
        return self


class FgdlSrLosses(FgdlLosses):
    """Weight of each term of the super-resolution; 0 switches a term off."""

    words: ClassVar[Mapping[str, str]] = {
        **FgdlLosses.words, "similarity": "agreement of similarity maps with the difference",
    }  # fmt: skip

    similarity: Weight = Field(10.0, description="Of similarity maps that tell what lacks")


class FgdlSr(Weighted):
    """Super-resolution of FGDL, guided by its synthesis, which is trained before and frozen."""

    implementation: ClassVar[str] = "m2m.models.families.fgdl_sr_model"
    sentence: ClassVar[str] = (
        "the super-resolution of FGDL [@feng2024], which aligns the low-resolution map to a "
        "frozen synthesis by deformable convolutions [@zhu2019]"
    )
    sees_low: ClassVar[bool] = True

    family: Literal["fgdl-sr"] = "fgdl-sr"
    cms: Name = Field("fgdl-cms", description="The synthesis: a model of the task low.after")
    network: SuperResolver = SuperResolver()
    losses: FgdlSrLosses = FgdlSrLosses()
    perceptual: Perceptual = Perceptual()
    discriminator: ProjectionJudge = ProjectionJudge()

    @model_validator(mode="after")
    def _labels_are_its_synthesis_s(self) -> Self:
        if self.correct_labels or self.labels_from:
            raise ValueError("fgdl-sr takes the label correction of its cms, frozen: set it there")
        return self

    @property
    def starts_from(self) -> str:
        """As `Family.starts_from`."""
        return self.cms

    def check_low(self, task: str, ratio: int, after: str, models: Mapping[str, Family]) -> None:
        """As `Family.check_low`: it sees what its synthesis sees, which has levels enough."""
        cms = models.get(self.cms)
        if not isinstance(cms, FgdlCms):
            raise ValueError(f"tasks.{task}: {self.cms} is no fgdl-cms of the task {after}")
        seen = SliceWindow.model_fields
        if any(getattr(self.window, key) != getattr(cms.window, key) for key in seen):
            raise ValueError(f"tasks.{task}: network.{', '.join(seen)} as in {self.cms}")
        if 2 ** (len(cms.network.widths) - 1) < ratio:
            raise ValueError(f"tasks.{task}: {self.cms} has too few levels for its ratio")


SECTION = FgdlSr
