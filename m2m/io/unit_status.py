"""Status file of a unit: results of a stage, or why it failed; the other units go on."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m2m import GENERATED_BY
from m2m.io.dataset_links import require_in_dataset
from m2m.io.errors import DataError, Finding, unexpected
from m2m.io.files import read_json, write_json, write_text


@contextmanager
def recorded(stage: str, unit: str, status: str | Path, outputs: Iterable[str | Path]) -> Iterator[dict[str, Any]]:
    """Run a stage of a unit and write its status; bad data are recorded, not raised.

    So is any other error, with its traceback in the log, unless it is the machine's: one scan that no check
    foresaw does not stop the others.

    Parameters
    ----------
    stage, unit : str
        Names in the record.
    status : path
        JSON written at the end: ``unit``, ``stage``, ``GeneratedBy``, ``status`` (ok, failed),
        ``finding`` when failed, and what the block added to the dictionary, also before it failed.
    outputs : paths
        Written as empty files when the data are bad, so that no invalid map can be mistaken for
        a result: an empty NIfTI cannot be opened.

    Yields
    ------
    dict
        To be filled with the stage's quality measures.

    Raises
    ------
    DataError
        A link would lead one of these files out of its dataset: nothing is written.
    """
    outputs = list(outputs)
    require_in_dataset(status, *outputs)
    record: dict[str, Any] = {}
    about = {"unit": unit, "stage": stage, "GeneratedBy": GENERATED_BY}
    try:
        try:
            yield record
        except DataError:
            raise
        except Exception as error:
            raise unexpected(error) from error
    except DataError as error:
        finding = Finding(unit, stage, error.problem, error.file, error.value, error.remedy)
        print(f"failed: {finding}")
        for output in outputs:
            write_text(output, "")
        write_json(
            status,
            {**about, "status": "failed", "finding": asdict(finding)} | record,
        )
    else:
        write_json(status, {**about, "status": "ok"} | record)


def require_ok(*statuses: str | Path) -> None:
    """Raise the `DataError` of the first earlier stage that failed, if any did."""
    for path in statuses:
        content = read_json(path)
        if content["status"] == "failed":
            finding = content["finding"]
            problem = finding["problem"]
            if not problem.startswith("stage "):
                problem = f"stage {content['stage']} failed: {problem}"
            raise DataError(problem, file=finding["file"], value=finding["value"], remedy=finding["remedy"])
