"""Cross-modality synthesis of FGDL (https://doi.org/10.1109/TMI.2024.3445969)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.family import Weighted
from m2m.options.model_parts import PERCEPTUAL, Perceptual, TermWeights
from m2m.options.section import Section
from m2m.options.training_options import Correction, LabelCorrection, Odd, SliceWindow, Weight


class Restormer(SliceWindow):
    """U-shaped Restormer."""

    context: Odd = Field(1, description="Neighbouring slices seen, an odd number")
    widths: tuple[Annotated[int, Field(ge=2, multiple_of=2)], ...] = Field(
        (48, 96, 192, 384, 384, 384), min_length=2, description="Channels of each level"
    )
    heads: tuple[PositiveInt, ...] = Field(
        (1, 2, 4, 4, 4, 4), description="Of the attention, level by level"
    )
    blocks: PositiveInt = Field(2, description="Of each level, on each way")
    expansion: PositiveFloat = Field(2.66, description="Of the feed-forward's channels")

    @model_validator(mode="after")
    def _levels_suit(self) -> Self:
        if len(self.widths) != len(self.heads):
            raise ValueError("network.widths and network.heads need one number for each level")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"network.widths: {width} cannot be divided among {heads} heads")
        if any(width % 4 for width in self.widths[1:]):
            raise ValueError(f"network.widths below the first are multiples of 4, {self.widths}")
        return self


class FgdlLosses(TermWeights):
    """Weight of each term of FGDL's generators; 0 switches a term off."""

    words: ClassVar[Mapping[str, str]] = {
        "image": "L1", "squared": "squared errors", "ms_ssim": "MS-SSIM [@wang2003]",
        "perceptual": PERCEPTUAL,
        "adversarial": "the relativistic loss [@jolicoeur2018] of a discriminator that is shown "
        "the difference map by projection [@miyato2018projection; @miyato2018normalization; "
        "@liu2019]",
        "features": "matching of its features [@wang2018]",
    }  # fmt: skip

    image: Weight = 1.0
    squared: Weight = Field(0.0, description="Of squared errors, which a PSNR is made of")
    ms_ssim: Weight = 1.0
    perceptual: Weight = Field(0.8, description="Needs a network in perceptual")
    adversarial: Weight = Field(0.01, description="Relativistic")
    features: Weight = Field(10.0, description="Of matching the discriminator's features")


class ProjectionJudge(Section):
    """Difference projection discriminator."""

    width: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-4
    every: PositiveInt = Field(6, description="Generator steps per discriminator step")
    start: Annotated[int, Field(ge=0)] = Field(
        0, description="Steps of warm-up, in which there is no discriminator"
    )


class FgdlCms(Weighted):
    """Cross-modality synthesis of FGDL (https://doi.org/10.1109/TMI.2024.3445969)."""

    implementation: ClassVar[str] = "m2m.models.families.fgdl_cms_model"
    sentence: ClassVar[str] = (
        "the cross-modality synthesis of FGDL [@feng2024], a U-shaped Restormer [@zamir2022]"
    )

    family: Literal["fgdl-cms"] = "fgdl-cms"
    network: Restormer = Restormer()
    losses: FgdlLosses = FgdlLosses()
    perceptual: Perceptual = Perceptual()
    discriminator: ProjectionJudge = ProjectionJudge()
    correct_labels: LabelCorrection = Correction()


SECTION = FgdlCms
