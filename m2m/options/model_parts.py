"""Sections that several families share, and the section of the workflow's own encoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.section import Range, Section
from m2m.options.training_options import SliceWindow, Weight

# Feature network of a perceptual distance, as described in the methods.
FEATURES = {"self": " in an encoder trained on the same participants", "vgg19": " in VGG19"}
# Description of the perceptual loss, with citation.
PERCEPTUAL = "a perceptual distance [@zhang2018]"


class Encoder(Section):
    """The workflow's own encoder of slices: a denoising autoencoder of the training participants."""

    widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64), min_length=2, description="Channels of each level, fine to coarse"
    )
    steps: PositiveInt = Field(500, description="Optimiser steps")
    batch_size: PositiveInt = Field(12, description="Slices per step")
    learning_rate: PositiveFloat = Field(2e-3, description="Learning rate")
    noise: PositiveFloat = Field(0.1, description="Standard deviation of the added noise, in scaled units")
    threads: PositiveInt = Field(8, description="CPU threads")
    seed: Annotated[int, Field(ge=0)] = Field(1, description="Random seed")


class Perceptual(Section):
    """Feature network of the perceptual loss."""

    network: Literal["none", "self", "vgg19"] = Field(
        "none",
        description="none: no perceptual loss; self: the encoder that the workflow trains; vgg19: VGG19, "
        "trained on ImageNet",
    )
    weights: Path | None = Field(None, description="For vgg19: torchvision's file of weights, .pth")

    @model_validator(mode="after")
    def _check_vgg_weights(self) -> Self:
        if self.network == "vgg19" and self.weights is None:
            raise ValueError(
                "perceptual.network vgg19 needs perceptual.weights: the path of torchvision's "
                "VGG19 weights (ImageNet; see their licence). m2m does not download them"
            )
        return self


class TermWeights(Section):
    """Weight of each term of the generator's loss.

    Attributes
    ----------
    term_names : mapping of str to str
        Description of each term for the methods; options without an entry are not weights.
    """

    term_names: ClassVar[Mapping[str, str]] = {}

    @property
    def terms(self) -> dict[str, float]:
        """Weight of each term, by its name."""
        return {name: weight for name, weight in self.model_dump().items() if name in self.term_names}


class Losses(TermWeights):
    """Weight of each term of the generator's loss; 0 switches a term off."""

    term_names: ClassVar[Mapping[str, str]] = {
        "l1": "L1",
        "mse": "mean squared error",
        "l1_low_frequency": "L1 of the low frequencies",
        "l1_high_frequency": "L1 of the high frequencies",
        "ms_ssim": "MS-SSIM [@wang2003]",
        "perceptual": PERCEPTUAL,
        "adversarial": "the logistic loss [@goodfellow2014] of an image discriminator "
        "[@karras2020] with the source as a further input",
        "patch_adversarial": "the logistic loss of a patch discriminator [@park2020; @goodfellow2014]",
        "log_sd": "the negative log-likelihood of the error under a predicted standard deviation [@nix1994]",
    }

    renamed: ClassVar[Mapping[str, str]] = {
        "image": "l1",
        "squared": "mse",
        "low": "l1_low_frequency",
        "high": "l1_high_frequency",
        "low_sigma_px": "low_frequency_sigma_px",
    }

    l1: Weight = Field(1.0, description="Weight of L1, the mean absolute error")
    mse: Weight = Field(0.0, description="Weight of the mean squared error, which PSNR is derived from")
    l1_low_frequency: Weight = Field(1.0, description="Weight of L1 of the low frequencies")
    l1_high_frequency: Weight = Field(1.0, description="Weight of L1 of the high frequencies")
    ms_ssim: Weight = Field(1.0, description="Weight of 1 - MS-SSIM")
    perceptual: Weight = Field(1.0, description="Weight of the perceptual loss; needs perceptual.network")
    adversarial: Weight = Field(0.01, description="Weight of the adversarial loss of the image discriminator")
    patch_adversarial: Weight = Field(0.01, description="Weight of the adversarial loss of the patch discriminator")
    log_sd: Weight = Field(
        1.0, description="Weight of the loss of the predicted uncertainty; it does not change the predicted image"
    )
    low_frequency_sigma_px: PositiveFloat = Field(
        1.5,
        description="Standard deviation, in pixels, of the Gaussian that separates low from high frequencies; "
        "3.5 at 1.25 mm is about 1.5 at 3 mm",
    )


class Discriminators(Section):
    """Image discriminator, and patch discriminator of crops inside the brain."""

    width: PositiveInt = Field(16, description="Channels of the first level")
    crops: PositiveInt = Field(4, description="Number of crops per image, for the patch discriminator")
    brain_focused: bool = Field(True, description="Whether crops are drawn inside the brain mask only")
    crop_fraction: Range = Field(
        (0.125, 0.25), description="Range of the side of a crop, relative to that of the image"
    )
    crop_size: Literal[8, 16, 32, 64, 128] = Field(16, description="Size, in pixels, to which crops are resized")
    learning_rate: PositiveFloat = Field(2e-4, description="Learning rate")
    every: PositiveInt = Field(
        1,
        description="Generator steps per discriminator step. Adversarial losses are computed in these steps only, "
        "with their weights multiplied by this number",
    )


class UNetwork(SliceWindow):
    """U-Net of five levels, MONAI's BasicUNet."""

    features: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        (16, 32, 64, 96, 128), description="Channels of each level, fine to coarse"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout rate")


class PatchGanOptions(Section):
    """PatchGAN, MONAI's PatchDiscriminator."""

    width: PositiveInt = Field(16, description="Channels of the first layer")
    layers: PositiveInt = Field(2, description="Number of layers")
    learning_rate: PositiveFloat = Field(2e-4, description="Learning rate")
    every: PositiveInt = Field(1, description="Generator steps per discriminator step")
