"""Schema of ``model.json``, the record of a model: the one place in which it is validated.

Models are passed on: weights and record may come from elsewhere. What has passed this schema can be built
into file names, sidecars and bundles: names and hashes are letters, digits, dots and hyphens, numbers are
finite and bounded, and there are no other keys.
"""

import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from m2m.io.errors import DataError, unreadable
from m2m.io.files import read_text
from m2m.io.modalities import MODALITIES
from m2m.options import FAMILIES, Deformation, Model, problems
from m2m.options.section import Name, Range, Section, one_of
from m2m.options.task_options import Source, Target

# A record of ten thousand participants has half a megabyte.
MOST_RECORD_BYTES = 16 * 2**20
# Voxels of the largest grid: 0.5 mm over 30 cm along each axis, and some more.
MOST_VOXELS = 2**28
# Largest number, and length of a list, in the options of a network: none that was published comes near.
LARGEST, LONGEST = 4096, 64
# Errors that are named in one message.
NAMED = 3

# Identifiers of participants in a text.
SUBJECTS = re.compile("sub-[A-Za-z0-9]+")


def _of_no_participant(text: str) -> str:
    if found := SUBJECTS.search(text):
        raise ValueError(f"names the participant {found[0]}")
    return text


SchemaT = TypeVar("SchemaT", bound=Section)
# Digests, versions, names of metrics and of candidates for a standard deviation.
Term = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=64)]
# Plain words, which MONAI does not evaluate: no path, no markup.
Sentence = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ,.:;()'+-]*$", max_length=300), AfterValidator(_of_no_participant)
]
ModelName = Annotated[Name, Field(max_length=100)]
Participant = Annotated[str, Field(pattern=r"^sub-[A-Za-z0-9]+$", max_length=100)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Finite = Annotated[float, Field(ge=-1e9, le=1e9)]
Positive = Annotated[float, Field(ge=0, le=1e9)]
Side = Annotated[int, Field(ge=2, le=2048)]
# Path of a module in a network, and most of them.
Layer = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", max_length=200)]
MOST_LAYERS = 4096
Terms = Annotated[dict[Term, Positive], Field(min_length=1, max_length=LONGEST)]


class Validation(Section):
    """Error on the validation participants."""

    metric: Term
    value: Positive
    n_subjects: Count


class Uncertainty(Section):
    """Calibration of the standard deviation, from `m2m.models.uncertainty.calibrate`."""

    method: Term
    factors: Terms
    nll: Annotated[dict[Term, Finite], Field(max_length=LONGEST)]
    part: Literal["train", "validation", "pairs"]
    n_subjects: Count

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if lacking := {self.method, "constant"} - set(self.factors):
            raise ValueError(f"factors have no {min(lacking)}")
        return self


class NumberRange(Section):
    """Range of a number over participants, from `m2m.models.validation_range.ranges_of`."""

    low: Finite
    high: Finite
    n_subjects: Count

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class StartedFrom(Section):
    """Trained model whose weights a training started from.

    Attributes
    ----------
    weights : str
        Hash of its file.
    n_taken : int
        Layers that were taken.
    not_taken : dict of str to str
        Layers that were not, with the reason.
    """

    task: ModelName
    model: ModelName
    weights: Term
    spacing_mm: float = Field(gt=0.1, le=20)
    simulated: bool
    n_taken: Count
    not_taken: dict[Layer, Literal["other shape", "not in the start", "not in this network"]] = Field(
        max_length=MOST_LAYERS
    )


class Calibration(Section):
    """Line from the network's map to the measured one, from `m2m calibrate`."""

    intercept: Finite
    slope: float = Field(gt=0, le=100)
    # Of tensors: factor of what is left of the log tensor without its mean diffusivity.
    anisotropy: float | None = Field(None, gt=0, le=100, exclude_if=lambda value: value is None)
    n_subjects: Count


class LowResInput(Section):
    """Low-resolution map that is a further input."""

    factor: Literal[2, 4, 8]
    source: Literal["dwi", "map"]


class Trainable(Section):
    """What a record of a model has in common with that of the synthesis which it starts from."""

    task: ModelName
    model: ModelName
    family: one_of(lambda: FAMILIES)  # type: ignore[valid-type]
    options: Model
    source: Source
    target: Target
    fingerprint: Term
    weights: Term

    @model_validator(mode="before")
    @classmethod
    def _name_family(cls, content: Any) -> Any:
        """Write the family into its options, which decides what they may be."""
        if isinstance(content, Mapping) and isinstance(options := content.get("options"), Mapping):
            return {**content, "options": {**options, "family": content.get("family")}}
        return content

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        options = self.options.model_dump(mode="json")
        for key in ("network", "correct_labels"):
            for path, value in _numbers(options.get(key), key):
                if abs(value) > LARGEST:
                    raise ValueError(f"options.{path} is too large, at most {LARGEST}")
        return self


class ModelRecord(Trainable):
    """Content of ``model.json``; that of an exported model lacks the participants and the units left out."""

    spacing_mm: float = Field(gt=0.1, le=20)
    shape: tuple[Side, Side, Side]
    axes: Literal["grid"] | None = None
    t1_range_percent: Annotated[Range, Field(min_length=2)]
    n_train: Count
    n_validation: Count
    train_participants: tuple[Participant, ...] = ()
    validation_participants: tuple[Participant, ...] = ()
    skipped: dict[Term, Count] = Field({}, max_length=LONGEST)
    split_hash: Term
    data_hash: Term
    code_version: Term
    encoder: Term | None = None
    low_res: LowResInput | None = None
    first: Trainable | None = None
    started_from: StartedFrom | None = None
    deformation: Deformation | None = None
    calibration: Calibration | None = None
    simulated: bool
    trained_on: Sentence | None = None
    licence: Sentence | None = None
    best_step: Count
    validation: Validation | None
    uncertainty: Uncertainty
    validation_range: dict[Term, NumberRange] = Field({}, max_length=LONGEST)
    parameters: Count

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if prod(self.shape) > MOST_VOXELS:
            raise ValueError(f"shape has more than {MOST_VOXELS} voxels")
        low, high = self.t1_range_percent
        if low < 0 or high > 100:
            raise ValueError("t1_range_percent is not within 0 and 100")
        return self

    @model_validator(mode="after")
    def _check_family(self) -> Self:
        if self.options.one_channel and len(MODALITIES[self.target].channels) > 1:
            raise ValueError(f"family {self.family} predicts one channel, not {self.target}")
        for key, needed in (("low_res", self.options.uses_low_res), ("first", bool(self.options.starts_from))):
            if needed != (getattr(self, key) is not None):
                raise ValueError(f"family {self.family} {'needs' if needed else 'has no'} {key}")
        return self


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield every number of nested options with its path; a list is one number too, its length."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, f"{path}.{key}")
    elif isinstance(value, list):
        yield path, len(value) * LARGEST / LONGEST
        for part in value:
            yield from _numbers(part, path)
    elif isinstance(value, int | float):
        yield path, value


def read_validated(schema: type[SchemaT], path: str | Path, what: str, remedy: str) -> SchemaT:
    """Read a JSON file that may come from elsewhere by its schema.

    Parameters
    ----------
    schema : type
    path : path
    what : str
        What it should be, for the message.
    remedy : str
        What the user can do.

    Returns
    -------
    Section

    Raises
    ------
    DataError
        It is missing, or does not fit the schema; the first errors are named.
    """
    if not Path(path).is_file():
        raise DataError(
            "the record of the weights is missing",
            file=path,
            remedy="keep the .json next to the .safetensors, or give its path with --record",
        )
    try:
        return schema.model_validate_json(read_text(path, MOST_RECORD_BYTES))
    except ValidationError as error:
        found = problems(error)
        more = f"; {len(found) - NAMED} more" if len(found) > NAMED else ""
        text = "; ".join(one[:150] for one in found[:NAMED]) + more
        raise DataError(f"is not {what}: {text}", file=path, remedy=remedy) from None
    except (OSError, ValueError) as error:
        raise unreadable(error, f"is not {what}", path, remedy) from error


def deformation_options(record: Mapping[str, Any]) -> Deformation:
    """Options by which a model's record says that the template is deformed to a T1; default ones without an entry."""
    return Deformation.model_validate(record.get("deformation") or {})


def read_record(path: str | Path) -> dict[str, Any]:
    """Read and validate the record of a model, as `read_validated`; the keys are those that the file has."""
    remedy = "give the model.json that `m2m train` or `m2m export` wrote beside the weights"
    record = read_validated(ModelRecord, path, "the record of a model", remedy)
    return record.model_dump(mode="json", exclude_unset=True)


def public_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Record of a model without the participants' identifiers and the folders of this machine.

    Parameters
    ----------
    record : mapping
        From `read_record`.

    Returns
    -------
    dict
        Valid as well: of a file that an option names, the name is kept.
    """
    private = {"train_participants", "validation_participants", "skipped"}
    checked = TypeAdapter(ModelRecord).validate_python({k: v for k, v in record.items() if k not in private})
    return without_folders(checked.model_dump(exclude_unset=True))


def without_folders(value: Any) -> Any:
    """Value as JSON, with the name alone of each path."""
    if isinstance(value, Mapping):
        return {key: without_folders(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(part) for part in value]
    return value.name if isinstance(value, Path) else value
