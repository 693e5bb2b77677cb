"""The early public Macro2Micro of 2023, unchanged, for reference."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat

from m2m.options.family import Listed, Trained
from m2m.options.model_parts import FEATURES, PERCEPTUAL, Discriminators, Perceptual


class Published2023(Trained):
    """The early public Macro2Micro, unchanged: its adversarial losses give no gradient."""

    implementation: ClassVar[str] = "m2m.models.families.macro2micro_2023_model"
    sentence: ClassVar[str] = (
        "the early public network of Macro2Micro [@kim2024] with its losses, L1 of the image and of its "
        "low and high frequencies; its adversarial losses give no gradient"
    )

    renamed: ClassVar[Mapping[str, str]] = {"low_sigma_px": "low_frequency_sigma_px"}

    family: Literal["macro2micro-2023"] = "macro2micro-2023"
    perceptual: Perceptual = Perceptual()
    discriminators: Discriminators = Discriminators()
    low_frequency_sigma_px: PositiveFloat = Field(
        1.5, description="Standard deviation, in pixels, of the Gaussian that separates low from high frequencies"
    )

    @property
    def features(self) -> Perceptual:
        """As `Family.features`."""
        return self.perceptual

    def loss_sentence(self, listed: Listed) -> str:
        """As `Trained.loss_sentence`."""
        if self.perceptual.network == "none":
            return ""
        return f"Its loss also had {PERCEPTUAL}{FEATURES[self.perceptual.network]}."


SECTION = Published2023
