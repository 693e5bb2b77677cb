"""Schema of the record beside the weights of a field."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from m2m.field.directions import DIRECTIONS
from m2m.io.modalities import MODALITIES, of_nature
from m2m.models.record_schema import LONGEST, Count, Finite, Term
from m2m.options import SliceField
from m2m.options.section import Section, one_of

# Largest number of features and of units of a layer; rows of a table, eight times the default.
LARGEST, MOST_ROWS = 4096, 2**24

Corner = tuple[Finite, Finite, Finite]
Row = tuple[Finite, Finite, Finite, Finite]


class Program(Section):
    """The version of m2m that wrote the field."""

    Name: Literal["m2m"]
    Version: Term


class FieldRecord(Section):
    """Content of a field's record: what `read_field` builds the network by, and about its origin."""

    modality: one_of(lambda: of_nature("density"))  # type: ignore[valid-type]
    options: SliceField
    channels: tuple[Term, ...]
    unit: Annotated[str, Field(pattern=r"^(sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?)?$", max_length=200)]
    affine: tuple[Row, Row, Row, Row]
    shape: tuple[Count, Count, Count]
    box_mm: tuple[Corner, Corner]
    pixel_mm: float = Field(gt=0.01, le=100)
    slice_sds: dict[Term, Finite] = Field({}, max_length=100_000)
    code_version: Term
    GeneratedBy: tuple[Program, ...] = Field((), max_length=LONGEST)
    weights: Term

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        chosen = self.options
        if max(chosen.features, *chosen.hidden, 0) > LARGEST or chosen.table_rows > MOST_ROWS:
            raise ValueError("options have a number that is too large")
        if max(len(chosen.hidden), len(chosen.spacings)) > LONGEST:
            raise ValueError("options have a list that is too long")
        sides = np.array(self.box_mm[1]) - np.array(self.box_mm[0])
        if sides.min() <= 0 or sides.max() > 10_000:
            raise ValueError("box_mm is no box of a head")
        own = MODALITIES[self.modality].channels
        if self.channels not in (own, (*own, *DIRECTIONS)):
            raise ValueError(f"channels are not those of {self.modality}, with or without directions")
        return self
