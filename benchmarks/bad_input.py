"""What is said of every kind of bad scan that the tests make, in one table.

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
from bad_scans import BAD
from cohort_tree import dataset, judge

Line = tuple[str, str, str]


def said(finding: dict[str, Any]) -> str:
    """A finding in a line."""
    value = f" [{finding['value']}]" if finding["value"] else ""
    return f"{finding['problem']}{value}: {finding['remedy']}"


def of_checks(out: Path) -> Iterator[Line]:
    """What `m2m validate` says of scans that show it themselves."""
    people = {kind: f"sub-bad{i}" for i, kind in enumerate(BAD)}
    root = dataset(out / "ds", "sub-ok", *people.values())
    for kind, person in people.items():
        BAD[kind][0](root / person)
    units, findings = judge(root, out)
    for kind, person in people.items():
        own = (f for f in findings if f["unit"] == person and BAD[kind][1] in f["problem"])
        yield kind, units[person]["state"], said(next(own)).replace(f"{out}/", "")


def of_stages(out: Path) -> Iterator[Line]:
    """What the stages make of scans that pass the checks; that maps are right is for the tests."""
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
                yield kind, f"{stage} failed", said(status["finding"])
            elif reasons := status.get("excluded"):
                yield kind, "excluded", "; ".join(reasons)
            else:
                yield kind, f"{stage} ok", "as the undamaged scan (tests/test_bad_input.py)"


def main() -> None:
    """Damage, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    wanted = parser.parse_args()
    lines = ["| | kind | outcome | message |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        found = [*of_checks(Path(first)), *of_stages(Path(second))]
    for number, line in enumerate(found, 1):
        lines.append(f"| {number} | {' | '.join(part.replace('|', '/') for part in line)} |")
    text = "\n".join(["`python benchmarks/bad_input.py`", "", *lines]) + "\n"
    print(text)
    if wanted.out:
        wanted.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
