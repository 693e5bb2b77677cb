"""Macro2Micro: an octave GAN, with corrected losses (Kim et al., arXiv:2412.11277)."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from m2m.options.family import Listed, Weighted
from m2m.options.model_parts import Discriminators, Losses, Perceptual
from m2m.options.training_options import SliceWindow


class Network(SliceWindow):
    """Octave encoder and decoder of Macro2Micro."""

    prior: bool = Field(
        True, description="Whether the training participants' mean map, in template space, is a further input"
    )
    widths: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (32, 48, 96, 128), min_length=2, description="Channels of each level, fine to coarse"
    )
    alpha: float = Field(0.5, ge=0, lt=1, description="Fraction of channels in the low-frequency branch")
    entry: bool = Field(True, description="Whether the encoder has a block at the finest level")
    residual: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether the network predicts the difference of the target from the prior",
    )

    @model_validator(mode="after")
    def _check_residual(self) -> Self:
        if self.residual and not self.prior:
            raise ValueError("network.residual needs network.prior: true, which the difference is from")
        return self


class Macro2Micro(Weighted):
    """Octave GAN (arXiv:2412.11277), with corrected losses."""

    implementation: ClassVar[str] = "m2m.models.families.macro2micro_model"
    sentence: ClassVar[str] = (
        "the generator of Macro2Micro [@kim2024], with skip connections and instance normalisation added"
    )

    family: Literal["macro2micro"] = "macro2micro"
    network: Network = Network()
    losses: Losses = Losses()
    perceptual: Perceptual = Perceptual()
    discriminators: Discriminators = Discriminators()
    mirror: bool = Field(
        True,
        description="Test-time augmentation: also translate the image mirrored left to right, and average; "
        "this doubles the time",
    )

    def network_sentence(self, listed: Listed) -> str:
        """As `Trained.network_sentence`."""
        network = self.network
        widths = listed([str(width) for width in network.widths])
        octaves = f"a fraction of {network.alpha:g} of them at low frequency [@chen2019]"
        text = f"Its levels had {widths} channels, {octaves if network.alpha else 'none of them at low frequency'}."
        return text + " It predicted the difference from the mean map." * network.residual


SECTION = Macro2Micro
