"""Parts that the sections of several families have, and the workflow's own encoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.section import Range, Section
from m2m.options.training_options import SliceWindow, Weight

# Whose features a perceptual distance is of, in the words of a study's methods.
FEATURES = {
    "self": " in an encoder that was trained on the same people", "vgg19": " in VGG19",
}  # fmt: skip
# The term that they are compared in, with citations.
PERCEPTUAL = "a perceptual distance [@zhang2018]"


class Encoder(Section):
    """The workflow's own encoder of slices, trained to take noise off the training people's."""

    widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64), min_length=2, description="Features of each level, fine to coarse"
    )
    steps: PositiveInt = 500
    batch_size: PositiveInt = 12
    learning_rate: PositiveFloat = 2e-3
    noise: PositiveFloat = Field(0.1, description="Standard deviation added, in scaled units")
    threads: PositiveInt = 8
    seed: Annotated[int, Field(ge=0)] = 1


class Perceptual(Section):
    """The network whose features an image is compared in."""

    network: Literal["none", "self", "vgg19"] = Field(
        "none", description="self: the encoder that the workflow trains; vgg19: ImageNet's"
    )
    weights: Path | None = Field(None, description="Of vgg19: torchvision's file, .pth")

    @model_validator(mode="after")
    def _vgg_needs_weights(self) -> Self:
        if self.network == "vgg19" and self.weights is None:
            raise ValueError(
                "perceptual.network vgg19 needs perceptual.weights: the path of torchvision's "
                "VGG19 weights (ImageNet; see their licence), which m2m does not download"
            )
        return self


class TermWeights(Section):
    """Weight of each term of a generator's objective.

    Attributes
    ----------
    words : mapping of str to str
        What a term is, for a study's methods; keys without an entry are no weights.
    """

    words: ClassVar[Mapping[str, str]] = {}

    @property
    def terms(self) -> dict[str, float]:
        """Weight of each term, by its name."""
        return {name: weight for name, weight in self.model_dump().items() if name in self.words}


class Losses(TermWeights):
    """Weight of each term of the generator's objective; 0 switches a term off."""

    words: ClassVar[Mapping[str, str]] = {
        "image": "L1", "squared": "squared errors", "low": "L1 of the low band",
        "high": "L1 of the high band", "ms_ssim": "MS-SSIM [@wang2003]",
        "perceptual": PERCEPTUAL,
        "adversarial": "the logistic loss [@goodfellow2014] of an image discriminator "
        "[@karras2020] that sees the source",
        "patch_adversarial": "that of a discriminator of patches [@park2020; @goodfellow2014]",
        "log_sd": "the likelihood of a predicted standard deviation [@nix1994]",
    }  # fmt: skip

    image: Weight = 1.0
    squared: Weight = Field(0.0, description="Of squared errors, which a PSNR is made of")
    low: Weight = 1.0
    high: Weight = 1.0
    ms_ssim: Weight = 1.0
    perceptual: Weight = Field(1.0, description="Needs a network in perceptual")
    adversarial: Weight = 0.01
    patch_adversarial: Weight = 0.01
    log_sd: Weight = Field(
        1.0, description="Of the predicted uncertainty; it does not change the image"
    )
    low_sigma_px: PositiveFloat = Field(
        1.5, description="Gaussian that makes the low band; 3.5 at 1.25 mm is 1.5 at 3 mm"
    )


class Discriminators(Section):
    """Image and brain-focused patch discriminators."""

    width: PositiveInt = 16
    crops: PositiveInt = Field(4, description="Crops per image")
    brain_focused: bool = Field(True, description="Crops are drawn inside the brain mask")
    crop_fraction: Range = Field((0.125, 0.25), description="Side of a crop over side")
    crop_size: Literal[8, 16, 32, 64, 128] = Field(16, description="Pixels a crop is resized to")
    learning_rate: PositiveFloat = 2e-4
    every: PositiveInt = Field(
        1,
        description="Generator steps per discriminator step; adversarial terms are computed in "
        "these steps only, and weigh as many times as much",
    )


class UNetwork(SliceWindow):
    """U-Net of five levels, MONAI's BasicUNet."""

    features: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        (16, 32, 64, 96, 128), description="Channels of each level, fine to coarse"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class PatchJudge(Section):
    """PatchGAN, MONAI's PatchDiscriminator."""

    width: PositiveInt = 16
    layers: PositiveInt = 2
    learning_rate: PositiveFloat = 2e-4
    every: PositiveInt = Field(1, description="Generator steps per discriminator step")
