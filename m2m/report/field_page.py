"""The page of continuous fields: seen from all sides, and what they are worth.

Every number in it is read from a table of `m2m draw-fields`; a mean over people is all that is
computed here.
"""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from m2m.figures.figure_records import of_scope
from m2m.io.bids import unit_folder, unit_path
from m2m.io.files import read_json, write_text
from m2m.options import Report
from m2m.options.configured import figures_folder, read_config, split_of
from m2m.options.stage_flags import NeededConfig, Root
from m2m.report.page import making, render
from m2m.report.pictures import shown

FIELD = "field"
METRICS = {"psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 3), "pearson": ("Pearson's r", 3)}
WORDS = {1: "Axial slices alone", 3: "Three orientations"}


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over people of each metric: a row per number of orientations, spacing and method."""
    keys, values = ["n_planes", "every", "method"], [*METRICS, "seconds"]
    return table.groupby(keys, sort=False, as_index=False)[values].mean()


def sentences(found: pd.DataFrame) -> Iterator[str]:
    """Say of each case where the field wins, and where it does not."""
    for (n_planes, every), case in found.groupby(["n_planes", "every"], sort=False):
        by_method = case.set_index("method")
        field, others = by_method.loc[FIELD], by_method.drop(index=FIELD)
        parts = []
        for metric, (name, digits) in METRICS.items():
            best = others[metric].idxmax()
            gain = field[metric] - others.loc[best, metric]
            parts.append(
                f"{name} {field[metric]:.{digits}f}, {gain:+.{digits}f} to the best other "
                f"({best}): it {'wins' if gain > 0 else 'does not win'}"
            )
        yield (
            f"{kept(n_planes)}, one slice kept of {every}: {'; '.join(parts)}. "
            f"It took {field['seconds']:.0f} s a person."
        )


def kept(n_planes: int) -> str:
    """Orientations of the kept slices, in words."""
    return WORDS.get(n_planes, f"{n_planes} orientations")


def cells(found: pd.DataFrame) -> list[list[str]]:
    """Cells of the table: a row a case and method."""
    digits = {metric: digits for metric, (_, digits) in METRICS.items()} | {"seconds": 1}
    return [
        [kept(row["n_planes"]), str(row["every"]), row["method"],
         *(f"{row[key]:.{n}f}" for key, n in digits.items())]
        for row in found.to_dict("records")
    ]  # fmt: skip


def films(roots: Sequence[Path], units: Sequence[str]) -> list[dict[str, Any]]:
    """Turntable of each field, or why there is none."""
    shown = []
    for unit in units:
        for root in roots:
            of = "measured" if root == roots[0] else f"{root.parent.name}, {root.name}"
            status = read_json(unit_path(root, "render-status", unit_folder(unit), unit))
            film = {"unit": unit, "of": of, "picture": None, "problem": None}
            if status["status"] == "ok":
                path = Path(unit_path(root, "field-turntable", unit_folder(unit), unit))
                text = base64.b64encode(path.read_bytes()).decode()
                film["picture"] = f"data:image/gif;base64,{text}"
            else:
                film["problem"] = status["finding"]["problem"]
            shown.append(film)
    return shown


def main(
    root: Root,
    of: Annotated[list[Path], typer.Option(help="Where maps lie: measured, then synthetic ones.")],
    config: NeededConfig,
    unit: Annotated[list[str] | None, typer.Option(help="Whose fields are shown; repeat.")] = None,
) -> None:
    """Write the page of continuous fields, self-contained."""
    written = read_config(config)
    write_page(
        of, Path(figures_folder(root, "report")), split_of(root)[1], written.simulated,
        config.read_text(encoding="utf-8"), root / "fields.html", written.section("report"),
        unit or [],
    )  # fmt: skip


def write_page(
    of: Sequence[Path],
    figures_dir: Path,
    split_record: Path,
    simulated: bool,
    config_json: str,
    out: Path,
    section: Report,
    units: Sequence[str] = (),
) -> None:
    """Write the page of these units' fields."""
    found = means(pd.read_csv(figures_dir / "held_out.tsv", sep="\t"))
    context = {
        "title": section.title, "simulated": simulated,
        "sentences": list(sentences(found)), "films": films(of, units),
        "columns": ["kept", "one of", "joined by", *(name for name, _ in METRICS.values()), "s"],
        "rows": cells(found), "n_people": len(units),
        "figures": shown(of_scope("fields"), figures_dir),
        **making(config_json, read_json(split_record)["hash"], "render"),
    }  # fmt: skip
    page = render("fields.html.j2", context)
    write_text(out, page)
    print(f"wrote {out} ({len(page.encode()) / 1e6:.1f} MB)")
