"""Base class and common types of all sections: unknown keys are errors, numbers are finite, ranges are ordered."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from m2m.io.bids import NAME, unusual_characters

# A participant's label, with sub- before it or without, as BIDS Apps take it; it is kept without.
ParticipantLabel = Annotated[
    str, Field(pattern=r"^(sub-)?[A-Za-z0-9]+$"), AfterValidator(lambda label: label.removeprefix("sub-"))
]
# Names of datasets, tasks and models.
Name = Annotated[str, Field(pattern=NAME)]


def _of_usual_characters(path: Path) -> Path:
    if set(str(path)) & set("{}"):
        raise ValueError(f"braces are reserved for Snakemake's wildcards: rename the folder {path}")
    if found := unusual_characters(str(path)):
        raise ValueError(f"the path has {found}, which tables and programs do not keep: rename {str(path)!r}")
    return path


DataPath = Annotated[Path, AfterValidator(_of_usual_characters)]
# Why keys of an earlier version are gone.
NO_BOOTSTRAP = "intervals are by Student's t and exact, not by resampling"
Fraction = Annotated[float, Field(ge=0, le=1)]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError(f"the lower limit must be first, got {list(limits)}")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


def one_of(names: Callable[[], Iterable[str]]) -> Any:
    """Type of a name in a registry; the registry is read when a configuration is validated."""

    def checked(name: str) -> str:
        if name not in (known := list(names())):
            raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        return name

    return Annotated[str, AfterValidator(checked), Field(json_schema_extra={"enum": list(names())})]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, numbers are finite, values are immutable.

    Attributes
    ----------
    renamed : mapping of str to str
        Keys of an earlier version, and their present names.
    removed : mapping of str to str
        Keys of an earlier version that have no successor, and why.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}
    removed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _check_old_names(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        problems = [f"{name} is now called {cls.renamed[name]}" for name in sorted(cls.renamed.keys() & content.keys())]
        problems += [f"remove {name}: {cls.removed[name]}" for name in sorted(cls.removed.keys() & content.keys())]
        if problems:
            raise ValueError("; ".join(problems))
        return content


OptionsT = TypeVar("OptionsT", bound=BaseModel)


def parse_options(section: type[OptionsT], text: str) -> OptionsT:
    """Read a section of the configuration from JSON."""
    return section.model_validate_json(text)


def problems(error: ValidationError) -> list[str]:
    """Errors of a configuration: one line for each key."""
    messages = {"extra_forbidden": "there is no such key", "missing": "this key is needed"}
    return [f"{'.'.join(map(str, one['loc']))}: {messages.get(one['type'], one['msg'])}" for one in error.errors()]
