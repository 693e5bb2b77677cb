"""The page of continuous fields: turntable animations, and their accuracy on held-out slices.

Every number in it is read from a table of `m2m draw-fields`; only means over participants are
computed here.
"""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from m2m.figures.figure_records import of_scope
from m2m.io.bids import participant_of, unit_folder, unit_path
from m2m.io.files import read_json
from m2m.options import Report
from m2m.options.configured import figures_folder, read_config, split_of
from m2m.options.stage_flags import NeededConfig, Root
from m2m.report.page import making, render
from m2m.report.page_figures import shown
from m2m.report.page_files import save_page

FIELD = "field"
METRICS = {"psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 3), "pearson": ("Pearson's r", 3)}
ORIENTATIONS = {1: "Axial slices only", 3: "Three orientations"}


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over participants of each metric: a row per number of orientations, spacing and method."""
    keys, values = ["n_planes", "every", "method"], [*METRICS, "seconds"]
    return table.groupby(keys, sort=False, as_index=False)[values].mean()


def sentences(table: pd.DataFrame) -> Iterator[str]:
    """Compare the field with the best other method, for each case of `means`."""
    for (n_planes, every), case in table.groupby(["n_planes", "every"], sort=False):
        by_method = case.set_index("method")
        field, others = by_method.loc[FIELD], by_method.drop(index=FIELD)
        parts = []
        for metric, (name, digits) in METRICS.items():
            best = others[metric].idxmax()
            gain = field[metric] - others.loc[best, metric]
            parts.append(
                f"{name} {field[metric]:.{digits}f}, {gain:+.{digits}f} compared with the best other method "
                f"({best}): the field's mean is {'higher' if gain > 0 else 'not higher'}"
            )
        yield (
            f"{kept(n_planes)}, one in {every} slices kept: {'; '.join(parts)}. "
            f"The field took {field['seconds']:.0f} s per participant."
        )


def kept(n_planes: int) -> str:
    """Description of the orientations of the kept slices."""
    return ORIENTATIONS.get(n_planes, f"{n_planes} orientations")


def cells(table: pd.DataFrame) -> list[list[str]]:
    """Cells of the page's table: one row per case and method."""
    digits = {metric: digits for metric, (_, digits) in METRICS.items()} | {"seconds": 1}
    return [
        [kept(row["n_planes"]), str(row["every"]), row["method"], *(f"{row[key]:.{n}f}" for key, n in digits.items())]
        for row in table.to_dict("records")
    ]


def animations(roots: Sequence[Path], units: Sequence[str]) -> list[dict[str, Any]]:
    """Turntable animation of each field, or the reason why there is none."""
    found = []
    for unit in units:
        for root in roots:
            of = "measured" if root == roots[0] else f"{root.parent.name}, {root.name}"
            status = read_json(unit_path(root, "render-status", unit_folder(unit), unit))
            animation = {"unit": unit, "of": of, "image": None, "problem": None}
            if status["status"] == "ok":
                path = Path(unit_path(root, "field-turntable", unit_folder(unit), unit))
                text = base64.b64encode(path.read_bytes()).decode()
                animation["image"] = f"data:image/gif;base64,{text}"
            else:
                animation["problem"] = status["finding"]["problem"]
            found.append(animation)
    return found


def main(
    root: Root,
    of: Annotated[list[Path], typer.Option(help="Dataset folders of the maps: measured first, then synthetic.")],
    config: NeededConfig,
    unit: Annotated[list[str] | None, typer.Option(help="Unit whose fields are shown; repeat for more.")] = None,
) -> None:
    """Write the page of continuous fields, self-contained."""
    settings = read_config(config)
    write_page(
        of,
        Path(figures_folder(root, "report")),
        split_of(root)[1],
        settings.simulated,
        config.read_text(encoding="utf-8"),
        root / "fields.html",
        settings.section("report"),
        unit or [],
    )


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
    """Write the page of the fields of these units.

    Parameters
    ----------
    of : sequence of Path
        Dataset folders of the maps: measured first, then synthetic.
    figures_dir : Path
        Folder of the figures, with held_out.tsv.
    split_record : Path
        split.json.
    simulated : bool
        Whether participants are simulated.
    config_json : str
        Configuration that was run.
    out : Path
        HTML file.
    section : Report
    units : sequence of str
        Units whose fields are shown.
    """
    table = means(pd.read_csv(figures_dir / "held_out.tsv", sep="\t"))
    context = {
        "title": section.title,
        "simulated": simulated,
        "sentences": list(sentences(table)),
        "animations": animations(of, units),
        "columns": ["kept slices", "one in", "method", *(name for name, _ in METRICS.values()), "s"],
        "rows": cells(table),
        "n_subjects": len(set(map(participant_of, units))),
        "figures": shown(of_scope("fields"), figures_dir),
        **making(config_json, read_json(split_record)["hash"], "render"),
    }
    page = render("fields.html.j2", context)
    save_page(out, page, section.max_page_mb)
