"""Section about weights that are installed with m2m: which model, its origin and licence."""

from pydantic import Field

from m2m.options.section import Fraction, Name, Section


class Install(Section):
    """A model of this study that `snakemake pretrained` calibrates on the real pairs and packs for installation."""

    task: Name | None = Field(None, description="Its task; null: no model is packed")
    model: Name | None = Field(None, description="Its name; null: no model is packed")
    contrast: Fraction = Field(
        0.0,
        description="Slope of the line to measured maps, between that of least squares (0: least error) and that "
        "of equal standard deviations (1: contrast is kept)",
    )
    leave_out: tuple[str, ...] = Field(
        (),
        description="Pairs that the model is not calibrated on, such as sub-01: MD and tensors of a b-value far from "
        "that of the training would shift its scale",
    )
    trained_on: str = Field("", description="What it was trained on, in a sentence that stays with its maps")
    licence: str = Field("", description="Licence of the weights, which the training data decide")
