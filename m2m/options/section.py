"""What every section shares: unknown keys are errors, ranges are in order."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
# Datasets, tasks and models name folders, and wildcards of the workflow.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]


def _without_braces(path: Path) -> Path:
    if set(str(path)) & set("{}"):
        raise ValueError(f"braces stand for Snakemake's wildcards: rename the folder {path}")
    return path


DataPath = Annotated[Path, AfterValidator(_without_braces)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError(f"the lower limit stands first, got {list(limits)}")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


def one_of(names: Callable[[], Iterable[str]]) -> Any:
    """Type of a name of a registry, which is asked when a configuration is read."""

    def checked(name: str) -> str:
        if name not in (known := list(names())):
            raise ValueError(f"{name!r} is none of {', '.join(known)}")
        return name

    return Annotated[str, AfterValidator(checked), Field(json_schema_extra={"enum": list(names())})]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=BaseModel)


def parse_options(section: type[OptionsT], text: str) -> OptionsT:
    """Read a stage's section of the configuration from the JSON that its rule hands over."""
    return section.model_validate_json(text)


def problems(error: ValidationError) -> list[str]:
    """What is wrong with a configuration: a line for each key, by its name."""
    words = {"extra_forbidden": "there is no such key", "missing": "this key is needed"}
    return [
        f"{'.'.join(map(str, one['loc']))}: {words.get(one['type'], one['msg'])}"
        for one in error.errors()
    ]
