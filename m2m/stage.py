"""What every stage shares: bad data as a record, options from JSON, files whole or absent.

A stage is one command of ``m2m``. Bad data found on the way raises `DataError`; a
subject's stage runs inside `recorded`, which turns it into a status file and empty maps,
so the cohort goes on. Any other error ends the command with a non-zero exit status.
"""

import csv
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

OptionsT = TypeVar("OptionsT", bound=BaseModel)
# With less than a block free, a disk is full.
FULL_BYTES = 4096
# Of the machine or of the network, not of the file that was asked for.
FAILING = {
    errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR,
    errno.ENODEV, errno.ENXIO, errno.EREMOTEIO, errno.ENOTCONN, errno.ETIMEDOUT,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNRESET, errno.ECONNABORTED,
}  # fmt: skip

# Raise a stage's version when its results change: Snakemake does not see edits in a package.
VERSIONS = {
    "simulate": 1,
    "describe": 2,
    "index": 2,
    "validate": 3,
    "folds": 1,
    "split": 2,
    "preprocess": 1,
    "dti": 2,
    "tractography": 1,
    "anat": 1,
    "grid": 2,
    "slices": 2,
    "lower": 1,
    "collect": 1,
    "quality": 1,
    "encoder": 1,
    "train": 3,
    "labels": 2,
    "correct-labels": 1,
    "translate": 3,
    "field": 2,
    "render": 2,
    "compare-fields": 1,
    "evaluate": 4,
    "compare": 4,
    "features": 1,
    "cnn": 2,
    "downstream": 3,
    "figures": 6,
    "draw-downstream": 4,
    "draw-fields": 2,
    "tables": 1,
    "methods": 2,
    "report": 7,
    "report-downstream": 2,
    "report-fields": 2,
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
        self.problem = " ".join(problem.split())  # a library's error may have lines
        super().__init__(self.problem)
        self.file, self.value, self.remedy = str(file), str(value), remedy

    def __str__(self) -> str:
        return str(Finding("", "", self.problem, self.file, self.value, self.remedy))[2:]


class StorageError(OSError):
    """The disk is full or does not answer: not the data, so the job fails and can be retried."""


def unreadable(error: Exception, problem: str, path: str | Path, remedy: str) -> DataError:
    """Say that a file cannot be read: a finding about a person, unless the storage failed.

    Raises
    ------
    StorageError
        Reading it again may go through.
    """
    if isinstance(error, OSError) and error.errno in FAILING:
        raise StorageError(
            f"cannot read {path}: {error.strerror}; see to the disk or the network, then run the "
            "same command again"
        ) from error
    return DataError(f"{problem}: {error}", file=path, remedy=remedy)


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

    The temporary name keeps the file's extensions, so that writers which look at them agree. Its
    bytes are on the disk before the rename, and what a killed writer of the same file left is
    removed.

    Raises
    ------
    StorageError
        The disk is full or read-only, or the folder is not the user's to write in.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except Exception as error:
        if remedy := _storage_remedy(path.parent, error):
            raise StorageError(f"cannot write {path}: {remedy}") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers are no more."""
    for name in path.parent.glob(f".*.{glob.escape(path.name)}"):
        pid = name.name.removesuffix(path.name).strip(".")
        if pid.isdigit() and not _is_running(int(pid)):
            name.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    """Whether a process of this machine has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _storage_remedy(folder: Path, error: Exception) -> str:
    """What to do where a write failed for want of space or permission; empty for other errors."""
    if isinstance(error, DataError):
        return ""
    number = getattr(error, "errno", None)
    # Libraries in other languages have errors of their own: with the words, or with neither.
    full = os.strerror(errno.ENOSPC) in str(error) or (
        not isinstance(error, OSError) and _free_bytes(folder) < FULL_BYTES
    )
    if full or number in (errno.ENOSPC, errno.EDQUOT):
        return "the disk or the quota is full; make room, then run the same command again"
    if number == errno.EROFS:
        return "the file system is read-only; mount it for writing, or set `results` elsewhere"
    if number in (errno.EACCES, errno.EPERM):
        return (
            "you may not write there; change the folder's permissions, or set `results` elsewhere"
        )
    return ""


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return float("inf")


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
        return parse_table(stream)


def parse_table(lines: Iterable[str]) -> list[dict[str, str | None]]:
    """Rows of a TSV from its lines, the first being the heading; ``n/a`` becomes None."""
    rows = csv.DictReader(lines, delimiter="\t")
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
