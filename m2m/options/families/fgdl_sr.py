"""Super-resolution of FGDL (https://doi.org/10.1109/TMI.2024.3445969)."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.families.fgdl_cms import FgdlCms, FgdlLosses, ProjectionDiscriminatorOptions
from m2m.options.family import Family, Weighted
from m2m.options.model_parts import Perceptual
from m2m.options.section import Name
from m2m.options.training_options import Odd, SliceWindow, Weight


class SuperResolver(SliceWindow):
    """Network of the super-resolution; its inputs are those of its synthesis, and the low-resolution map."""

    context: Odd = Field(1, description="Number of adjacent slices given as input, odd; as in the synthesis")
    width: PositiveInt = Field(48, description="Channels of every stage")
    heads: PositiveInt = Field(2, description="Attention heads; attention has twice as many channels")
    blocks: PositiveInt = Field(2, description="Transformer blocks of each stage")
    expansion: PositiveFloat = Field(2.66, description="Expansion factor of the channels in feed-forward layers")

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if 2 * self.width % self.heads:
            raise ValueError(f"network: {2 * self.width} channels cannot be divided among {self.heads} heads")
        return self


class FgdlSrLosses(FgdlLosses):
    """Weight of each term of the super-resolution; 0 switches a term off."""

    term_names: ClassVar[Mapping[str, str]] = {
        **FgdlLosses.term_names,
        "similarity": "agreement of the similarity maps with the difference map",
    }

    similarity: Weight = Field(
        10.0, description="Weight of the agreement between similarity maps and the error of the synthesis"
    )


class FgdlSr(Weighted):
    """Super-resolution of FGDL, guided by its synthesis, which is trained first and frozen."""

    implementation: ClassVar[str] = "m2m.models.families.fgdl_sr_model"
    sentence: ClassVar[str] = (
        "the super-resolution of FGDL [@feng2024], which aligns the low-resolution map to a "
        "frozen synthesis by deformable convolutions [@zhu2019]"
    )
    uses_low_res: ClassVar[bool] = True

    family: Literal["fgdl-sr"] = "fgdl-sr"
    cms: Name = Field("fgdl-cms", description="Synthesis that guides it: a model of the task low_res.synthesis_task")
    network: SuperResolver = SuperResolver()
    losses: FgdlSrLosses = FgdlSrLosses()
    perceptual: Perceptual = Perceptual()
    discriminator: ProjectionDiscriminatorOptions = ProjectionDiscriminatorOptions()

    @model_validator(mode="after")
    def _check_correction(self) -> Self:
        if self.correct_labels or self.labels_from:
            raise ValueError("fgdl-sr uses the label correction of its cms, frozen: set it there")
        return self

    @property
    def starts_from(self) -> str:
        """As `Family.starts_from`."""
        return self.cms

    def check_low_res(self, task: str, factor: int, after: str, models: Mapping[str, Family]) -> None:
        """As `Family.check_low_res`: same inputs as its synthesis, which has enough levels.

        Parameters
        ----------
        task, factor, after, models
            As in `Family.check_low_res`.
        """
        cms = models.get(self.cms)
        if not isinstance(cms, FgdlCms):
            raise ValueError(f"tasks.{task}: {self.cms} is not an fgdl-cms of the task {after}")
        inputs = SliceWindow.model_fields
        if any(getattr(self.window, key) != getattr(cms.window, key) for key in inputs):
            raise ValueError(f"tasks.{task}: network.{', '.join(inputs)} must be as in {self.cms}")
        if 2 ** (len(cms.network.widths) - 1) < factor:
            raise ValueError(f"tasks.{task}: {self.cms} has too few levels for its factor")


SECTION = FgdlSr
