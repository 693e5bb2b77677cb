"""Sections of the model families."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.base import Fraction, Range, Section


class Network(Section):
    """Octave encoder and decoder of Macro2Micro."""

    widths: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (32, 48, 64, 96), min_length=2, description="Channels of each level, fine to coarse"
    )
    alpha: float = Field(
        0.5, ge=0, lt=1, description="Share of channels in the low-frequency branch"
    )
    context: PositiveInt = Field(5, description="Neighbouring slices seen, an odd number")

    @model_validator(mode="after")
    def _context_is_odd(self) -> Self:
        if self.context % 2 == 0:
            raise ValueError(f"network.context must be odd, got {self.context}")
        return self


class Losses(Section):
    """Weight of each term of the generator's objective; 0 switches a term off."""

    image: float = Field(1.0, ge=0)
    low: float = Field(1.0, ge=0)
    high: float = Field(1.0, ge=0)
    ms_ssim: float = Field(1.0, ge=0)
    adversarial: float = Field(0.01, ge=0)
    patch_adversarial: float = Field(0.01, ge=0)
    low_sigma_px: PositiveFloat = Field(
        1.5, description="Gaussian that makes the low band; 3.5 at 1.25 mm is 1.5 at 3 mm"
    )


class Discriminators(Section):
    """Image and brain-focused patch discriminators."""

    width: PositiveInt = 16
    crops: PositiveInt = Field(4, description="Crops per image, drawn inside the brain mask")
    crop_fraction: Range = Field((0.125, 0.25), description="Side of a crop over side")
    crop_size: Literal[8, 16, 32, 64, 128] = Field(16, description="Pixels a crop is resized to")
    learning_rate: PositiveFloat = 2e-4
    every: PositiveInt = Field(1, description="Generator steps per discriminator step")


class Training(Section):
    """The loop: steps, optimiser, augmentation, how often to look and to save."""

    steps: PositiveInt = 1500
    batch_size: PositiveInt = Field(12, description="Slices a step, of all devices together")
    learning_rate: PositiveFloat = 1e-3
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05, description="Share of the steps in which the learning rate rises; then cosine to 0"
    )
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.99), description="Of Adam")
    ema_decay: Fraction = Field(0.995, description="Of the averaged weights, the ones exported")
    flip: bool = Field(True, description="Mirror half of the slices left to right")
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="Gamma and scale of intensities: within exp(-jitter) and exp(jitter)"
    )
    validate_every: PositiveInt = 100
    validation_subjects: PositiveInt = Field(16, description="At most so many, evenly chosen")
    checkpoint_every: PositiveInt = 250
    workers: int = Field(0, ge=0, description="Processes that read slices ahead")
    threads: PositiveInt = Field(8, description="Of the CPU; one each trains small networks faster")
    seed: Annotated[int, Field(ge=0)] = 1
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bf16 where the hardware has it"
    )
    devices: PositiveInt = 1


class Macro2Micro(Section):
    """Octave GAN (arXiv 2412.11277), made sound."""

    family: Literal["macro2micro"] = "macro2micro"
    network: Network = Network()
    losses: Losses = Losses()
    discriminators: Discriminators = Discriminators()
    training: Training = Training()
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = ("axial", "coronal", "sagittal")


class MeanMap(Section):
    """The training cohort's mean map, carried to each person by registration to the template."""

    family: Literal["mean"] = "mean"


class RescaledT1(Section):
    """T1 mapped to the target's scale by a least-squares line inside the training brains."""

    family: Literal["t1"] = "t1"


Model = Annotated[Macro2Micro | MeanMap | RescaledT1, Field(discriminator="family")]
