"""Status file of a unit: results of a stage, or why it failed; the other units go on."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m2m import GENERATED_BY
from m2m.io.dataset_links import require_in_dataset
from m2m.io.errors import DataError, Finding, Kept, unexpected
from m2m.io.files import digest, file_digest, read_json, write_json, write_text

# Variable of the environment, in which the workflow says what a stage's results are made by, such as its version and
# options. Results that were made by the same from the same files are kept; by hand, without it, they are made again.
MADE_BY = "M2M_MADE_BY"


def _origin(inputs: Sequence[str | Path]) -> str:
    """Digest of what the workflow names in `MADE_BY` and of the files; empty by hand, or where one cannot be read."""
    made_by = os.environ.get(MADE_BY)
    if not made_by or not inputs:
        return ""
    try:
        return digest([made_by, *([str(path), file_digest(path)] for path in inputs)])
    except OSError:  # the stage says which, and why
        return ""


def _has_made(status: str | Path, outputs: Sequence[str | Path], origin: str) -> bool:
    """Whether a stage succeeded with this origin, and its results are still there."""
    if not all(Path(path).is_file() for path in (status, *outputs)):
        return False
    record = read_json(status)
    return record.get("status") == "ok" and record.get("made_by") == origin


@contextmanager
def recorded(
    stage: str,
    unit: str,
    status: str | Path,
    outputs: Iterable[str | Path],
    inputs: Sequence[str | Path] = (),
) -> Iterator[dict[str, Any]]:
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
    inputs : sequence of paths
        All files that the results depend on, where the workflow may call the stage for several units.

    Yields
    ------
    dict
        To be filled with the stage's quality measures.

    Raises
    ------
    DataError
        A link would lead one of these files out of its dataset: nothing is written.
    Kept
        The results are up to date: see `MADE_BY`.
    """
    outputs = list(outputs)
    require_in_dataset(status, *outputs)
    record: dict[str, Any] = {}
    about = {"unit": unit, "stage": stage, "GeneratedBy": GENERATED_BY}
    if origin := _origin(inputs):
        about["made_by"] = origin
        if _has_made(status, outputs, origin):
            print(f"{unit}: {stage} keeps what it made")
            raise Kept
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
