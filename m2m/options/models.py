"""Sections of the model families."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.base import Name, Range, Section
from m2m.options.training import Correction, LabelCorrection, Odd, SliceWindow, Trained, Weight


class Network(SliceWindow):
    """Octave encoder and decoder of Macro2Micro."""

    prior: bool = Field(True, description="See the training people's mean map at each place")
    widths: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (32, 48, 96, 128), min_length=2, description="Channels of each level, fine to coarse"
    )
    alpha: float = Field(
        0.5, ge=0, lt=1, description="Share of channels in the low-frequency branch"
    )
    entry: bool = Field(True, description="Give the finest level a block on the way down, too")


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


class Losses(Section):
    """Weight of each term of the generator's objective; 0 switches a term off."""

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


class Macro2Micro(Trained):
    """Octave GAN (arXiv 2412.11277), made sound."""

    family: Literal["macro2micro"] = "macro2micro"
    network: Network = Network()
    losses: Losses = Losses()
    perceptual: Perceptual = Perceptual()
    discriminators: Discriminators = Discriminators()
    mirror: bool = Field(True, description="Translate the mirrored person too, and average")


class Published2023(Trained):
    """The early public Macro2Micro as it is: its adversarial terms give no gradient."""

    family: Literal["macro2micro-2023"] = "macro2micro-2023"
    perceptual: Perceptual = Perceptual()
    discriminators: Discriminators = Discriminators()
    low_sigma_px: PositiveFloat = 1.5


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


class Pix2Pix(Trained):
    """U-Net, PatchGAN that sees the source, L1 (Isola et al. 2017, arXiv:1611.07004)."""

    family: Literal["pix2pix"] = "pix2pix"
    network: UNetwork = UNetwork(context=1)
    discriminator: PatchJudge = PatchJudge()
    l1: Weight = Field(100.0, description="Weight of L1 beside the adversarial term's 1")


class CycleGan(Trained):
    """Two U-Nets, two PatchGANs, slices unpaired (Zhu et al. 2017, arXiv:1703.10593)."""

    family: Literal["cyclegan"] = "cyclegan"
    network: UNetwork = UNetwork(context=1)
    discriminator: PatchJudge = PatchJudge()
    cycle: Weight = Field(10.0, description="Weight beside the adversarial terms' 1")
    identity: Weight = Field(5.0, description="Of what is already in the target's domain")

    @model_validator(mode="after")
    def _labels_are_of_other_people(self) -> Self:
        if self.correct_labels:
            raise ValueError(
                "cyclegan never sees a slice's own target: correct_labels is not for it"
            )
        return self

    @model_validator(mode="after")
    def _one_slice(self) -> Self:
        if self.network.context != 1 or self.training.batch_size < 2:
            raise ValueError(
                "cyclegan translates single slices both ways (network.context 1), and draws its "
                "unpaired slices from the batch (batch_size 2 or more)"
            )
        return self


class UNet(Trained):
    """2.5D U-Net with L1 and SSIM: regression, without an opponent."""

    family: Literal["unet"] = "unet"
    network: UNetwork = UNetwork()
    l1: Weight = 1.0
    ssim: Weight = 1.0


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


class FgdlLosses(Section):
    """Weight of each term of FGDL's generators; 0 switches a term off."""

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


class FgdlCms(Trained):
    """Cross-modality synthesis of FGDL (https://doi.org/10.1109/TMI.2024.3445969)."""

    family: Literal["fgdl-cms"] = "fgdl-cms"
    network: Restormer = Restormer()
    losses: FgdlLosses = FgdlLosses()
    perceptual: Perceptual = Perceptual()
    discriminator: ProjectionJudge = ProjectionJudge()
    correct_labels: LabelCorrection = Correction()


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

    similarity: Weight = Field(10.0, description="Of similarity maps that tell what lacks")


class FgdlSr(Trained):
    """Super-resolution of FGDL, guided by its synthesis, which is trained before and frozen."""

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


class MeanMap(Section):
    """The training cohort's mean map, carried to each person by registration to the template."""

    family: Literal["mean"] = "mean"


class RescaledT1(Section):
    """T1 mapped to the target's scale by a least-squares line inside the training brains."""

    family: Literal["t1"] = "t1"


class Upsampled(Section):
    """The target at low resolution, enlarged by cubic splines."""

    family: Literal["upsampled"] = "upsampled"


NetworkModel = Macro2Micro | Published2023 | Pix2Pix | CycleGan | UNet | FgdlCms | FgdlSr
Model = Annotated[NetworkModel | MeanMap | RescaledT1 | Upsampled, Field(discriminator="family")]
