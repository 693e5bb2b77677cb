"""Parts of a network's section: its training, what it sees, how labels are corrected."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from m2m.options.section import Fraction, Section

Weight = Annotated[float, Field(ge=0)]


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"must be odd, got {number}")
    return number


Odd = Annotated[int, Field(ge=1), AfterValidator(_odd)]


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
    central_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of each orientation's slices, the middle ones, that is learned from"
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
    devices: PositiveInt = Field(
        1, description="Processes to start, on a device each; those of srun or torchrun are taken"
    )

    @model_validator(mode="after")
    def _batch_is_divided(self) -> Self:
        if self.batch_size % self.devices:
            raise ValueError(
                f"training.batch_size {self.batch_size} cannot be divided among "
                f"{self.devices} devices: it must be a multiple of training.devices"
            )
        return self


class SliceWindow(Section):
    """What a network sees of a volume."""

    context: Odd = Field(5, description="Neighbouring slices seen, an odd number")
    position: bool = Field(False, description="See each pixel's place in the template")
    prior: bool = Field(False, description="See the training people's mean map at that place")


class Correction(Section):
    """Label correction: each slice of the target is moved to where the source says it belongs."""

    widths: tuple[PositiveInt, ...] = Field(
        (32, 64, 64, 64, 64, 64, 64), description="Channels of each level, fine to coarse"
    )
    smoothness: Weight = Field(1.0, description="Weight of the misalignment's squared slopes")
    along: tuple[Literal["x", "y", "z"], ...] = Field(
        ("x", "y", "z"),
        min_length=1,
        description="Axes, RAS+, along which targets may be off; EPI is along its phase encoding",
    )
    context: Odd = Field(
        1, description="Neighbouring slices of target and source seen, an odd number"
    )
    start: Annotated[int, Field(ge=0)] = Field(
        0, description="Steps in which it learns, and targets stay where they are"
    )
    smooth_mm: NonNegativeFloat = Field(
        5.0, description="Standard deviation of the Gaussian over a person's joint field"
    )


def _switched(value: object) -> object:
    """Read true and false as a correction with its defaults, and as none."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


LabelCorrection = Annotated[Correction | None, BeforeValidator(_switched)]
