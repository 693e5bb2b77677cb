"""A unit's status file: what a stage found, or why it failed, so that the cohort goes on."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m2m.io.errors import DataError, Finding
from m2m.io.files import read_json, write_json, write_text


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
