"""What every stage shares: bad data as a record, options from JSON, files whole or absent.

A stage is one command of ``m2m``. Bad data found on the way raises `DataError`; a
subject's stage runs inside `recorded`, which turns it into a status file and empty maps,
so the cohort goes on. Any other error ends the command with a non-zero exit status.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

OptionsT = TypeVar("OptionsT", bound=BaseModel)

# Raise a stage's version when its results change: Snakemake does not see edits in a package.
VERSIONS = {
    "simulate": 1,
    "describe": 1,
    "index": 1,
    "validate": 1,
    "folds": 1,
    "split": 1,
    "preprocess": 1,
    "dti": 1,
    "tractography": 1,
    "anat": 1,
    "grid": 2,
    "slices": 2,
    "collect": 1,
    "quality": 1,
    "encoder": 1,
    "train": 3,
    "translate": 3,
    "field": 1,
    "render": 1,
    "evaluate": 3,
    "compare": 3,
    "features": 1,
    "cnn": 1,
    "downstream": 1,
    "figures": 3,
    "draw-downstream": 1,
    "report": 3,
    "report-downstream": 1,
}


@dataclass(frozen=True)
class Finding:
    """What is wrong with one file of one subject, and what to do about it."""

    unit: str
    stage: str
    problem: str
    file: str = ""
    value: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        where = f" in {self.file}" if self.file else ""
        value = f" (found {self.value})" if self.value else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.unit}: {self.problem}{value}{where}{remedy}"


class DataError(Exception):
    """Bad data: recorded with subject, file, value and remedy; the cohort goes on without it."""

    def __init__(
        self, problem: str, *, file: str | Path = "", value: object = "", remedy: str = ""
    ):
        super().__init__(problem)
        self.problem, self.file, self.value, self.remedy = problem, str(file), str(value), remedy

    def __str__(self) -> str:
        return str(Finding("", "", self.problem, self.file, self.value, self.remedy))[2:]


def parse_options(section: type[OptionsT], text: str) -> OptionsT:
    """Read a stage's section of the configuration from the JSON that its rule hands over."""
    return section.model_validate_json(text)


def digest(value: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: str | Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the same folder; rename it to `path` when the block succeeds.

    The temporary name keeps the file's extensions, so that writers which look at them agree.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_table(
    path: str | Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
) -> None:
    """Write rows as TSV; a missing or None value becomes ``n/a``, as BIDS asks."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            values = (row.get(column) for column in columns)
            writer.writerow(["n/a" if value is None else value for value in values])


def read_table(path: str | Path) -> list[dict[str, str | None]]:
    """Read a TSV; ``n/a`` becomes None. Standard library only, so the workflow parses fast."""
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:  # spreadsheets add a mark
        rows = csv.DictReader(stream, delimiter="\t")
        return [{k: None if v in ("n/a", "") else v for k, v in row.items()} for row in rows]


@contextmanager
def recorded(
    stage: str, unit: str, status: str | Path, outputs: Iterable[str | Path]
) -> Iterator[dict[str, Any]]:
    """Run a unit's stage; its status is written either way, and bad data ends in a record.

    Parameters
    ----------
    stage, unit : str
        Names in the record.
    status : path
        JSON written at the end: ``unit``, ``stage``, ``status`` (ok, failed), ``finding``
        when failed, and whatever the block put into the dictionary it was given.
    outputs : paths
        Written as empty files when the data are bad, so that no map exists which could be
        taken for a result: an empty NIfTI cannot be opened.

    Yields
    ------
    dict
        To be filled with the stage's quality numbers.
    """
    record: dict[str, Any] = {}
    try:
        yield record
    except DataError as error:
        finding = Finding(unit, stage, error.problem, error.file, error.value, error.remedy)
        print(f"failed: {finding}")
        for output in outputs:
            write_text(output, "")
        write_json(
            status,
            {"unit": unit, "stage": stage, "status": "failed"} | {"finding": asdict(finding)},
        )
    else:
        write_json(status, {"unit": unit, "stage": stage, "status": "ok"} | record)


def require_ok(*statuses: str | Path) -> None:
    """Raise the `DataError` of the first earlier stage that failed, if any did."""
    for path in statuses:
        content = read_json(path)
        if content["status"] == "failed":
            finding = content["finding"]
            problem = finding["problem"]
            if not problem.startswith("stage "):
                problem = f"stage {content['stage']} failed: {problem}"
            raise DataError(
                problem, file=finding["file"], value=finding["value"], remedy=finding["remedy"]
            )
