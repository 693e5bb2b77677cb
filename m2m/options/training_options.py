"""Parts of a network's section: training, inputs, label correction."""

from pathlib import Path
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


class Augmentation(Section):
    """Simulated differences between scans, drawn for each training slice; 0: none."""

    tone: Weight = Field(0.0, description="Standard deviation of a random monotone curve of the T1's intensities")
    bias: Weight = Field(
        0.0, description="Standard deviation of the logarithm of a smooth random field that multiplies the T1"
    )
    noise: Weight = Field(0.0, description="Largest standard deviation of Gaussian noise added to the T1, scaled")
    blur_px: Weight = Field(
        0.0,
        description="Largest standard deviation, in pixels, of a Gaussian blur of the T1 along one axis of the slice, "
        "or across its neighbours, as by thick slices",
    )
    deform_px: Weight = Field(
        0.0,
        description="Standard deviation, in pixels, of a smooth random displacement of T1 and target against the "
        "template; for targets that are not tensors",
    )

    @property
    def changes_intensities(self) -> bool:
        """Whether the T1 is changed."""
        return any((self.tone, self.bias, self.noise, self.blur_px))


class Training(Section):
    """Training loop: steps, optimiser, augmentation, validation, checkpoints."""

    # Omitted where there is none: a further key would change the fingerprint of every model.
    start_from: Annotated[Literal["pretrained"] | Path, Field(union_mode="left_to_right")] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Trained weights that the network starts from: pretrained, the installed ones of the same source "
        "and target, or a model.safetensors with its model.json beside it, of the same family; null: random weights",
    )
    steps: PositiveInt = Field(1500, description="Optimiser steps")
    batch_size: PositiveInt = Field(
        12, description="Slices per step, over all devices; stacks of slices for a network that takes these"
    )
    learning_rate: PositiveFloat = Field(1e-3, description="Highest learning rate, after the warm-up")
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05,
        description="Fraction of the steps in which the learning rate rises linearly; then it decays to 0 by a cosine",
    )
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.99), description="Betas of Adam")
    ema_decay: Fraction = Field(
        0.995, description="Decay of the exponential moving average of the weights, which is exported"
    )
    flip: bool = Field(True, description="Augmentation: mirror half of the slices left to right")
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05,
        description="Augmentation: random gamma and scale of the intensities of a T1 source, "
        "between exp(-jitter) and exp(jitter)",
    )
    augment: Augmentation = Field(Augmentation(), exclude_if=lambda value: value == Augmentation())
    central_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Fraction of the slices of each orientation used for training, from the centre of the brain"
    )
    validate_every: PositiveInt = Field(100, description="Steps between validations")
    validation_subjects: PositiveInt = Field(16, description="Maximum number of validation participants, evenly chosen")
    checkpoint_every: PositiveInt = Field(250, description="Steps between checkpoints")
    workers: int = Field(0, ge=0, description="Processes that read slices in advance")
    threads: PositiveInt = Field(
        8, description="CPU threads; small networks train faster side by side, with one thread each"
    )
    seed: Annotated[int, Field(ge=0)] = Field(1, description="Random seed")
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="Numerical precision; auto: bf16-mixed where the hardware supports it, else 32-true"
    )
    devices: PositiveInt = Field(
        1,
        description="Number of processes, with one device each; under srun or torchrun, their processes are used",
    )

    @model_validator(mode="after")
    def _check_batch_size(self) -> Self:
        if self.batch_size % self.devices:
            raise ValueError(
                f"training.batch_size {self.batch_size} cannot be divided among "
                f"{self.devices} devices: it must be a multiple of training.devices"
            )
        return self


class SliceWindow(Section):
    """Inputs of a network: slices of the source, and optional further channels."""

    context: Odd = Field(5, description="Number of adjacent slices given as input, odd; 1: the slice alone")
    position: bool = Field(False, description="Whether template coordinates of each pixel are further inputs")
    prior: bool = Field(
        False, description="Whether the training participants' mean map, in template space, is a further input"
    )
    # Omitted where it is off: a further key would change the fingerprint of every model.
    deformed: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether the places at which prior and template coordinates are read follow the deformation of "
        "the template to the T1 (`m2m deform`), in place of the affine transform alone; a prior of tensors is turned "
        "with it",
    )


class Correction(Section):
    """Label correction: each slice of the target is warped to align with the source."""

    widths: tuple[PositiveInt, ...] = Field(
        (32, 64, 64, 64, 64, 64, 64), description="Channels of each level, fine to coarse"
    )
    smoothness: Weight = Field(
        1.0, description="Weight of the smoothness penalty: squared gradients of the displacement"
    )
    along: tuple[Literal["x", "y", "z"], ...] = Field(
        ("x", "y", "z"),
        min_length=1,
        description="RAS+ axes along which targets may be displaced; for EPI, the phase-encoding axis",
    )
    context: Odd = Field(1, description="Number of adjacent slices of target and source given as input, odd")
    start: Annotated[int, Field(ge=0)] = Field(
        0, description="First optimiser steps, in which the correction is trained but not applied to the targets"
    )
    smooth_mm: NonNegativeFloat = Field(
        5.0,
        description="Standard deviation of the Gaussian that smooths the displacement field of a participant, "
        "combined from all orientations",
    )


def _switched(value: object) -> object:
    """Read true as the default options, and false as no correction."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


LabelCorrection = Annotated[
    Correction | None, BeforeValidator(_switched, json_schema_input_type=bool | Correction | None)
]
