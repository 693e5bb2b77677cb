"""Print which units are done, failed or excluded, why, and which results are missing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from m2m.cohort.finding_codes import PAGE, code_of, codes_of_unit, explanations
from m2m.cohort.participants import Row
from m2m.cohort.quality import NOT_RUN, STAGES, count_flow, outcome, read_statuses
from m2m.cohort.split import load_split, part_by_participant
from m2m.io.bids import is_unit, slices_path, unit_path
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.tables import read_table

COLUMNS = ("unit", "scans", "part", "dti", "anat", "grid", "slices", "translated", "state", "why")
# Of larger cohorts, only failed and excluded units are printed.
MOST_LISTED = 60
NONE = "-"


def find_results(folder: Path) -> Path:
    """Find the only dataset in a folder of results.

    Raises
    ------
    DataError
        No dataset has results, or more than one.
    """
    found = sorted(path.parent for path in folder.glob("*/cohort"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(
            "no dataset has results yet",
            file=folder,
            remedy="run the workflow, or name another folder: m2m status --results FOLDER",
        )
    raise DataError(
        "more than one dataset has results",
        file=folder,
        value=", ".join(map(str, found)),
        remedy=f"name one: m2m status --results {found[0]}",
    )


def describe_unit(unit: Row, parts: Mapping[str, str], root: Path) -> dict[str, str]:
    """Describe the progress of a unit.

    Parameters
    ----------
    unit : dict
        Row of units.tsv.
    parts : mapping of str to str
        Part by participant.
    root : Path
        The derivative dataset.

    Returns
    -------
    dict
        Values of `COLUMNS`.
    """
    statuses = read_statuses(root, unit)
    state, stage, reason = outcome(unit, statuses)
    folder, name_of_unit = unit["folder"] or "", unit["unit"] or ""
    row = {"unit": name_of_unit, "scans": unit["state"] or NONE}
    row["part"] = parts.get(unit["participant_id"] or "", NONE) if row["scans"] == "paired" else NONE
    for name in ("dti", "anat", "grid"):
        wanted = name in STAGES[row["scans"]]
        row[name] = statuses[name]["status"] if name in statuses else "waits" * wanted or NONE
    row["slices"], models = NONE, set[str]()
    if is_unit(name_of_unit):  # a name that BIDS forbids has no results
        slices = Path(slices_path(root, "slices.json", folder, name_of_unit))
        row["slices"] = read_json(slices)["status"] if slices.exists() else NONE
        pattern = unit_path("synthetic/*/*", "synth-fa", folder, name_of_unit)
        # An empty map stands for a failed one; synthetic/<task>/<model>/...
        models = {p.relative_to(root).parts[2] for p in root.glob(pattern) if p.stat().st_size}
    row["translated"] = ",".join(sorted(models)) or NONE
    if reason == NOT_RUN:
        return row | {"state": "waiting", "why": f"{stage} has not run"}
    return row | {"state": state, "why": f"{stage}: {reason}" if stage else ""}


def format_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Format rows as text in columns, the last one ragged."""
    cells = [list(columns), *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in cells)
    return "\n".join(lines)


def _counts(rows: list[dict[str, str]], findings: list[Row]) -> list[str]:
    """Lines with counts of units and reasons."""
    waiting = [row for row in rows if row["state"] == "waiting"]
    flow = count_flow(
        {"state": row["state"], "stage": row["why"].partition(": ")[0], "reason": row["why"].partition(": ")[2]}
        for row in rows
        if row["state"] != "waiting"
    )
    lines = [
        f"{len(rows)} units: {flow['n_used']} used, {len(waiting)} waiting, "
        f"{flow['n_incomplete']} incomplete, {flow['n_failed']} failed, "
        f"{flow['n_excluded']} excluded"
    ]
    for state, reasons in flow["reasons"].items():
        lines += [f"  {state:<11}{n:>5}  {reason}" for reason, n in reasons.items()]
    for why, n in Counter(row["why"] for row in waiting).items():
        lines.append(f"  {'waiting':<11}{n:>5}  {why}")
    notes = sum(finding["severity"] == "note" for finding in findings)
    lines.append(f"in cohort_status.tsv: errors {len(findings) - notes}, notes {notes}")
    return lines + _explained(rows, findings)


def _explained(rows: list[dict[str, str]], findings: list[Row]) -> list[str]:
    """Lines with the code of every finding and of every unit that is not used: what it is, and its page."""
    codes = {code_of(finding.get("problem") or "") for finding in findings}
    for row in rows:
        stage, _, reason = row["why"].partition(": ")
        codes.update(codes_of_unit({"state": row["state"], "stage": stage, "reason": reason}))
    shown = {code: one for code, one in explanations().items() if code in codes}
    lines = [f"  {code:<21}{one.what} {PAGE}#{code}" for code, one in shown.items()]
    return ["what they are, and what to do:", *lines] if lines else []


def describe_results(root: Path, list_all: bool = False) -> str:
    """Describe a dataset's results as text.

    Parameters
    ----------
    root : path
        ``results/<dataset>``.
    list_all : bool
        Whether to print all units of a cohort of more than `MOST_LISTED`.

    Returns
    -------
    str
    """
    cohort = root / "cohort"
    if not (cohort / "units.tsv").exists():
        listed = (cohort / "manifest.tsv").exists()
        return f"{root}: scans are {'listed, not yet validated' if listed else 'not yet listed'}"
    units = read_table(cohort / "units.tsv")
    parts = {}
    if (cohort / "split.json").exists():
        parts = part_by_participant(load_split(cohort / "split.tsv", cohort / "split.json"))
    rows = [describe_unit(unit, parts, root) for unit in units]
    findings = read_table(cohort / "cohort_status.tsv")
    shown = rows
    if len(rows) > MOST_LISTED and not list_all:
        shown = [row for row in rows if row["state"] in ("failed", "excluded")]
    text = [f"{root}", ""]
    if shown:
        text += [format_table(shown, COLUMNS), ""]
    if len(shown) < len(rows):
        text += [f"({len(rows) - len(shown)} more units without failure; --all prints them)", ""]
    text += _counts(rows, findings)
    text += _progress(root)
    report = root / "report.html"
    text.append(f"report: {report if report.exists() else 'not yet'}")
    return "\n".join(text)


def _progress(root: Path) -> list[str]:
    """Lines with the trained and evaluated models, and the missing ones."""

    def named(pattern: str) -> set[str]:
        return {"/".join(path.parts[-3:-1]) for path in root.glob(pattern)}

    trained, evaluated = named("models/*/*/model.json"), named("evaluate/*/*/metrics.tsv")
    lines = {
        "trained": trained,
        "evaluated": evaluated,
        "begun, not yet trained": named("models/*/*/training") - trained,
        "trained, not yet evaluated": trained - evaluated,
    }
    shown = {name: models for name, models in lines.items() if models or "not yet" not in name}
    return [f"{name}: {', '.join(sorted(models)) or 'nothing yet'}" for name, models in shown.items()]


def main(
    results: Annotated[
        Path | None, typer.Option(help="Folder of results of one dataset; default: the only one.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--all", help="Print every unit.")] = False,
) -> None:
    """Print which units are done, failed or excluded, and why; and which models are missing."""
    root = find_results(Path("results")) if results is None else results
    if not (root / "cohort").is_dir():
        raise DataError("no results here", file=root, remedy="run the workflow, or name results/<dataset>")
    print(describe_results(root, list_all))
