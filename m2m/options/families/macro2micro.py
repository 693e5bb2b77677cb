"""Macro2Micro: an octave GAN, made sound (Kim et al., arXiv:2412.11277)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from m2m.options.family import Listed, Weighted
from m2m.options.model_parts import Discriminators, Losses, Perceptual
from m2m.options.training_options import SliceWindow


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


class Macro2Micro(Weighted):
    """Octave GAN (arXiv 2412.11277), made sound."""

    implementation: ClassVar[str] = "m2m.models.families.macro2micro_model"
    sentence: ClassVar[str] = (
        "the generator of Macro2Micro [@kim2024], with skip connections and instance "
        "normalisation added"
    )

    family: Literal["macro2micro"] = "macro2micro"
    network: Network = Network()
    losses: Losses = Losses()
    perceptual: Perceptual = Perceptual()
    discriminators: Discriminators = Discriminators()
    mirror: bool = Field(True, description="Translate the mirrored person too, and average")

    def network_sentence(self, listed: Listed) -> str:
        """As `Trained.network_sentence`."""
        network = self.network
        share = f"a share of {network.alpha:g} of" if network.alpha else "without"
        octaves = " [@chen2019]" if network.alpha else ""
        widths = listed([str(width) for width in network.widths])
        return f"Its levels had {widths} channels, {share} low-frequency ones{octaves}."


SECTION = Macro2Micro
