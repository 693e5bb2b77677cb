"""A Brownian bridge from the source to the target (after I2SB, Liu et al. 2023, arXiv:2302.05872)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from m2m.options.family import Listed, Windowed
from m2m.options.section import Section
from m2m.options.training_options import SliceWindow, Training, Weight


class BridgeNetwork(SliceWindow):
    """U-Net of MONAI's diffusion models, without attention."""

    widths: tuple[Annotated[int, Field(ge=8, multiple_of=8)], ...] = Field(
        (16, 32, 64, 96), min_length=2, description="Channels of each level, fine to coarse; multiples of 8"
    )


class Sampling(Section):
    """How a volume is sampled."""

    steps: PositiveInt = Field(
        4,
        le=100,
        description="Steps from source to target; 1: the mean that the network predicts from the source",
    )
    samples: PositiveInt = Field(4, le=32, description="Samples of each slice; the map is their mean")


class Bridge(Windowed):
    """Brownian bridge between slices of source and target (after I2SB, arXiv:2302.05872)."""

    implementation: ClassVar[str] = "m2m.models.families.bridge_model"
    packages: ClassVar[Mapping[str, str]] = {"MONAI": "monai"}
    sentence: ClassVar[str] = (
        "a Brownian bridge from source to target [@liu2023; @albergo2023], whose network predicted the target at a "
        "random time of the bridge, trained on the mean squared error"
    )

    family: Literal["bridge"] = "bridge"
    network: BridgeNetwork = BridgeNetwork()
    noise: Weight = Field(
        0.2, description="Standard deviation of the bridge is noise * sqrt(t (1 - t)), scaled; 0: a straight line"
    )
    sampling: Sampling = Sampling()
    training: Training = Training(validate_every=500)

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.correct_labels:
            raise ValueError("bridge starts from targets as they are: correct_labels is not possible")
        return self

    def network_sentence(self, listed: Listed) -> str:
        """As `Trained.network_sentence`."""
        widths = listed([str(width) for width in self.network.widths])
        steps, samples = self.sampling.steps, self.sampling.samples
        drawn = f"the mean of {samples} samples of {steps} steps each" if steps > 1 else "one step"
        return (
            f"The levels of its U-Net had {widths} channels, the noise a scale of {self.noise:g}; a translation was "
            f"{drawn}."
        )


SECTION = Bridge
