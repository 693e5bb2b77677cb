"""The early public Macro2Micro of 2023, as it is: a reference point."""

from typing import ClassVar, Literal

from pydantic import PositiveFloat

from m2m.options.family import Listed, Trained
from m2m.options.model_parts import FEATURES, PERCEPTUAL, Discriminators, Perceptual


class Published2023(Trained):
    """The early public Macro2Micro as it is: its adversarial terms give no gradient."""

    implementation: ClassVar[str] = "m2m.models.families.macro2micro_2023_model"
    sentence: ClassVar[str] = (
        "the early public network of Macro2Micro [@kim2024] with its losses, L1 of image, low "
        "and high band; its adversarial terms give no gradient"
    )

    family: Literal["macro2micro-2023"] = "macro2micro-2023"
    perceptual: Perceptual = Perceptual()
    discriminators: Discriminators = Discriminators()
    low_sigma_px: PositiveFloat = 1.5

    @property
    def features(self) -> Perceptual:
        """As `Family.features`."""
        return self.perceptual

    def loss_sentence(self, listed: Listed) -> str:
        """As `Trained.loss_sentence`."""
        if self.perceptual.network == "none":
            return ""
        return f"Its loss had {PERCEPTUAL}{FEATURES[self.perceptual.network]}, too."


SECTION = Published2023
