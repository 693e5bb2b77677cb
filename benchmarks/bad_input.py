"""Outcome and message for every kind of bad scan that the tests make, in one table.

python benchmarks/bad_input.py --out benchmarks/bad_input.md
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import test_bad_input as kinds
from bad_files import BAD_MASKS, GOOD_MASKS
from bad_selection import EVERY as BAD
from cohort_tree import dataset, index_and_validate

Row = tuple[str, str, str]


def sentence(finding: dict[str, Any]) -> str:
    """Write a finding in one line."""
    value = f" [{finding['value']}]" if finding["value"] else ""
    return f"{finding['problem']}{value}: {finding['remedy']}"


def rows_of_checks(out: Path) -> Iterator[Row]:
    """Yield the findings of `m2m validate` on scans whose files show the problem."""
    subjects = {kind: f"sub-bad{i}" for i, kind in enumerate(BAD)}
    root = dataset(out / "ds", "sub-ok", *subjects.values())
    for kind, subject in subjects.items():
        BAD[kind][0](root / subject)
    units, findings = index_and_validate(root, out)
    for kind, subject in subjects.items():
        own = (f for f in findings if f["unit"] == subject and BAD[kind][1] in f["problem"])
        yield kind, units[subject]["state"], sentence(next(own)).replace(f"{out}/", "")


def rows_of_masks(out: Path) -> Iterator[Row]:
    """Yield what `m2m validate` says of masks beside sound scans."""
    damage = {kind: put for kind, (put, _) in BAD_MASKS.items()} | GOOD_MASKS
    subjects = {kind: f"sub-mask{i}" for i, kind in enumerate(damage)}
    root = dataset(out / "masks", *subjects.values())
    for kind, put in damage.items():
        put(root / subjects[kind])
    units, findings = index_and_validate(root, out)
    for kind, subject in subjects.items():
        message = "; ".join(sentence(f) for f in findings if f["unit"] == subject)
        yield kind, "mask used" if units[subject]["t1w_mask"] else "mask left out", message or "as it is"


def rows_of_stages(out: Path) -> Iterator[Row]:
    """Yield the outcome of the stages on scans that pass the checks; the tests check the maps themselves."""
    cohort = kinds.Cohort(out)
    stages = {
        "dti": (*kinds.RIGHT_SERIES, *kinds.BAD_SERIES),
        "anat": (*kinds.RIGHT_T1, *kinds.BAD_T1),
        "grid": tuple(kinds.PAIRS),
    }
    for stage, names in stages.items():
        for kind in names:
            status = cohort.status(kind, stage)
            if status["status"] == "failed":
                yield kind, f"{stage} failed", sentence(status["finding"])
            elif reasons := status.get("excluded"):
                yield kind, "excluded", "; ".join(reasons)
            else:
                yield kind, f"{stage} ok", "as the undamaged scan (tests/test_bad_input.py)"


def main() -> None:
    """Make the bad scans, run checks and stages, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    wanted = parser.parse_args()
    lines = ["| | kind | outcome | message |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        found = [*rows_of_checks(Path(first)), *rows_of_masks(Path(first)), *rows_of_stages(Path(second))]
    for number, line in enumerate(found, 1):
        lines.append(f"| {number} | {' | '.join(part.replace('|', '/') for part in line)} |")
    text = "\n".join(["`python benchmarks/bad_input.py`", "", *lines]) + "\n"
    print(text)
    if wanted.out:
        wanted.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
