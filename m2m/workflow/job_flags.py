"""Parameters of jobs: flags whose values depend on the job."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Pattern of a file, or input function.
Wanted = str | Callable[[Any], str | list[str]]


def subject_flags(wildcards: Any) -> list[str]:
    """`--subject` and, where the wildcards' unit has a session, `--session`."""
    subject, _, session = wildcards.unit.partition("_")
    return ["--subject", subject, *(["--session", session] if session else [])]


def files(wanted: Wanted, wildcards: Any) -> list[str]:
    """Files of one job, by a pattern or an input function."""
    found = wanted.format(**vars(wildcards)) if isinstance(wanted, str) else wanted(wildcards)
    return [found] if isinstance(found, str) else found


def file_flags(wanted: Mapping[str, Wanted], wildcards: Any) -> list[str]:
    """A flag before each file that there is."""
    return [part for name, one in wanted.items() for part in repeated(name, files(one, wildcards))]


def low_res_flag(wildcards: Any) -> list[str]:
    """`--low-res` with the wildcards' low resolution."""
    return ["--low-res", wildcards.low_res]


def repeated(name: str, values: Iterable[str]) -> list[str]:
    """Repeat a flag for each of its values."""
    return [part for value in values for part in (name, value)]


def flag(name: str, key: str) -> Callable[[Any, Any], list[str]]:
    """Parameter function: a flag for each file of an optional input, or nothing."""

    def argument(wildcards: Any, input: Any) -> list[str]:
        files = input.get(key) or []
        return repeated(name, [files] if isinstance(files, str) else files)

    return argument


def output_folder(wildcards: Any, output: Sequence[str]) -> str:
    """Folder of a job's first output."""
    return str(Path(output[0]).parent)
