"""Cross-modality synthesis (CMS) of FGDL (https://doi.org/10.1109/TMI.2024.3445969)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.family import Weighted
from m2m.options.model_parts import PERCEPTUAL, Perceptual, TermWeights
from m2m.options.section import Section
from m2m.options.training_options import Correction, LabelCorrection, Odd, SliceWindow, Weight


class Restormer(SliceWindow):
    """U-shaped Restormer."""

    context: Odd = Field(1, description="Number of adjacent slices given as input, odd; 1: the slice alone")
    widths: tuple[Annotated[int, Field(ge=2, multiple_of=2)], ...] = Field(
        (48, 96, 192, 384, 384, 384), min_length=2, description="Channels of each level"
    )
    heads: tuple[PositiveInt, ...] = Field((1, 2, 4, 4, 4, 4), description="Attention heads of each level")
    blocks: PositiveInt = Field(2, description="Transformer blocks of each level, in the encoder and in the decoder")
    expansion: PositiveFloat = Field(2.66, description="Expansion factor of the channels in feed-forward layers")

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if len(self.widths) != len(self.heads):
            raise ValueError("network.widths and network.heads need one number for each level")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"network.widths: {width} cannot be divided among {heads} heads")
        if any(width % 4 for width in self.widths[1:]):
            raise ValueError(f"network.widths after the first must be multiples of 4, got {self.widths}")
        return self


class FgdlLosses(TermWeights):
    """Weight of each term of FGDL's generators; 0 switches a term off."""

    term_names: ClassVar[Mapping[str, str]] = {
        "l1": "L1",
        "mse": "mean squared error",
        "ms_ssim": "MS-SSIM [@wang2003]",
        "perceptual": PERCEPTUAL,
        "adversarial": "the relativistic loss [@jolicoeur2018] of a discriminator that is conditioned on "
        "the difference map by projection [@miyato2018projection; @miyato2018normalization; "
        "@liu2019]",
        "features": "feature matching with this discriminator [@wang2018]",
    }

    renamed: ClassVar[Mapping[str, str]] = {"image": "l1", "squared": "mse"}

    l1: Weight = Field(1.0, description="Weight of L1, the mean absolute error")
    mse: Weight = Field(0.0, description="Weight of the mean squared error, which PSNR is derived from")
    ms_ssim: Weight = Field(1.0, description="Weight of 1 - MS-SSIM")
    perceptual: Weight = Field(0.8, description="Weight of the perceptual loss; needs perceptual.network")
    adversarial: Weight = Field(0.01, description="Weight of the relativistic adversarial loss")
    features: Weight = Field(10.0, description="Weight of feature matching with the discriminator")


class ProjectionDiscriminatorOptions(Section):
    """Difference projection discriminator."""

    width: PositiveInt = Field(64, description="Channels of the first level")
    learning_rate: PositiveFloat = Field(1e-4, description="Learning rate")
    every: PositiveInt = Field(6, description="Generator steps per discriminator step")
    start: Annotated[int, Field(ge=0)] = Field(0, description="First optimiser steps, without the discriminator")


class FgdlCms(Weighted):
    """Cross-modality synthesis (CMS) of FGDL (https://doi.org/10.1109/TMI.2024.3445969)."""

    implementation: ClassVar[str] = "m2m.models.families.fgdl_cms_model"
    sentence: ClassVar[str] = "the cross-modality synthesis of FGDL [@feng2024], a U-shaped Restormer [@zamir2022]"

    family: Literal["fgdl-cms"] = "fgdl-cms"
    network: Restormer = Restormer()
    losses: FgdlLosses = FgdlLosses()
    perceptual: Perceptual = Perceptual()
    discriminator: ProjectionDiscriminatorOptions = ProjectionDiscriminatorOptions()
    correct_labels: LabelCorrection = Correction()


SECTION = FgdlCms
