"""The stage `compare-fields`: a person's held-out slices by a field and by interpolation."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from m2m.field.held_out import Case, Score, methods, score
from m2m.inference import choose_device
from m2m.modalities import MODALITIES
from m2m.options import HeldOut, SliceField
from m2m.slices import PLANES
from m2m.stage import DataError, parse_options, recorded, require_ok, write_table
from m2m.volume import Volume, load, require_same_grid

COLUMNS = ("unit", "every", "n_planes", "method", "plane", *Score._fields, "n_voxels", "seconds")


def cases(scaled: Volume, inside: Volume, every: Sequence[int]) -> Iterator[Case]:
    """Every spacing of kept slices, of three orientations and of axial ones alone."""
    for n in every:
        for planes in (PLANES, PLANES[:1]):
            yield Case(scaled, inside.data > 0, planes, n)


def compare_case(case: Case, options: SliceField, device: str = "cpu") -> Iterator[dict[str, Any]]:
    """A row of the table for each way to join the kept slices.

    Raises
    ------
    DataError
        All slices are kept, or no kept one passes through the region.
    """
    unseen = int(np.count_nonzero(case.unseen))
    if not unseen:
        raise DataError("no voxel of the mask lies between kept slices", value=case.every)
    for (method, plane), make in methods(case, options, device).items():
        begun = time.perf_counter()
        image = make()
        seconds = time.perf_counter() - begun
        yield {
            "every": case.every, "n_planes": len(case.planes),
            "method": method, "plane": plane or None,
            **score(case, image)._asdict(), "n_voxels": unseen, "seconds": round(seconds, 2),
        }  # fmt: skip


def main(
    image: Annotated[Path, typer.Option("--map", help="The true map, on the common grid.")],
    mask: Annotated[Path, typer.Option(help="Where it holds something: voxels compared.")],
    table: Annotated[Path, typer.Option(help="Table to write, .tsv: a row per method.")],
    unit: Annotated[str, typer.Option(help="Name in the table and in the status file.")],
    status: Annotated[Path, typer.Option(help="Status file to write, JSON.")],
    modality: Annotated[str, typer.Option(help="What the map holds: tdi or fa.")] = "tdi",
    require: Annotated[
        list[Path] | None, typer.Option(help="Status of what made the map; repeat.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    options: Annotated[str, typer.Option(help="JSON of the section `held_out`.")] = "{}",
    field_options: Annotated[str, typer.Option(help="JSON of the section `field`.")] = "{}",
) -> None:
    """Compare a field fitted to every n-th slice of a true map with interpolation."""
    every = parse_options(HeldOut, options).every
    section = parse_options(SliceField, field_options)
    with recorded("compare-fields", unit, status, [table]) as numbers:
        require_ok(*(require or []))
        true, inside = load(image), load(mask)
        require_same_grid(inside, true, str(mask))
        scaled = Volume(MODALITIES[modality].scale(true.data), true.affine)
        chosen = choose_device(device)
        rows = []
        for case in cases(scaled, inside, every):
            for row in compare_case(case, section, chosen):
                rows.append({"unit": unit, **row})
                print(*(f"{key} {value}" for key, value in rows[-1].items() if value), flush=True)
        write_table(table, rows, COLUMNS)
        numbers |= {"n_rows": len(rows)}
