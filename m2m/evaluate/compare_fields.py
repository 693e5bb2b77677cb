"""The stage `compare-fields`: held-out slices of a participant, from a field and from interpolation."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer

from m2m.evaluate.held_out import Case, Score, methods, score
from m2m.io.bids import files_of, unit_of
from m2m.io.errors import DataError
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.tables import write_table
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume, load, require_same_grid
from m2m.models.torch_engine import Device, choose_device
from m2m.options import SliceField
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, Root, Session, Subject
from m2m.structural.slices import PLANES

COLUMNS = ("unit", "every", "n_planes", "method", "plane", *Score._fields, "n_voxels", "seconds")


def cases(scaled: Volume, inside: Volume, every: Sequence[int]) -> Iterator[Case]:
    """Yield a case for every spacing of kept slices: three orientations, then axial slices alone.

    Parameters
    ----------
    scaled : Volume
        Scaled map, shape (X, Y, Z).
    inside : Volume
        Mask of the region on the same grid; at least one half is inside.
    every : sequence of int
        Spacings of the kept slices.

    Yields
    ------
    Case
    """
    for n in every:
        for planes in (PLANES, PLANES[:1]):
            yield Case(scaled, in_mask(inside.data), planes, n)


def compare_case(case: Case, options: SliceField, device: str = "cpu") -> Iterator[dict[str, Any]]:
    """Yield a row of the table for each way to join the kept slices.

    Parameters
    ----------
    case : Case
    options : SliceField
        Section `field`.
    device : str
        Device on which the field is fitted.

    Yields
    ------
    dict
        `COLUMNS` without unit.

    Raises
    ------
    DataError
        All slices are kept, or no kept slice passes through the region.
    """
    unseen = int(np.count_nonzero(case.unseen))
    if not unseen:
        raise DataError("no voxel of the mask lies between kept slices", value=case.every)
    for (method, plane), make in methods(case, options, device).items():
        start = time.perf_counter()
        image = make()
        seconds = time.perf_counter() - start
        yield {
            "every": case.every,
            "n_planes": len(case.planes),
            "method": method,
            "plane": plane or None,
            **score(case, image)._asdict(),
            "n_voxels": unseen,
            "seconds": round(seconds, 2),
        }


def main(
    root: Root,
    subject: Subject,
    session: Session = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section `held_out`.")] = None,
    field_options: Annotated[str | None, typer.Option(help="JSON of the section `field`.")] = None,
) -> None:
    """Compare a field fitted to every n-th slice of a measured map with interpolation."""
    unit = unit_of(subject, session)
    at = files_of(unit, root)
    compare_unit(
        at("tdi"),
        at("target-mask"),
        at("held-out"),
        unit,
        at("held-out-status"),
        section_of("held_out", config, options, needed=False).every,
        section_of("field", config, field_options, needed=False),
        require=[at("grid-status")],
        device=device,
    )


def compare_unit(
    image: Path,
    mask: Path,
    table: Path,
    unit: str,
    status: Path,
    every: Sequence[int],
    section: SliceField,
    modality: str = "tdi",
    require: Sequence[Path] = (),
    device: str = "auto",
) -> None:
    """Compare fields of one unit's map with interpolation.

    Parameters
    ----------
    image, mask : Path
        Measured map and mask of the compared region, on one grid.
    table : Path
        TSV to write.
    unit : str
        Participant and session, for the table and the status.
    status : Path
        JSON to write.
    every : sequence of int
        Spacings of the kept slices.
    section : SliceField
        Options of the field.
    modality : str
        Modality of the map; gives its scale.
    require : sequence of Path
        Status files of earlier stages, which must be ok.
    device : str
        auto, cpu, cuda or mps.
    """
    with recorded("compare-fields", unit, status, [table]) as numbers:
        require_ok(*require)
        reference, inside = load(image), load(mask)
        require_same_grid(inside, reference, str(mask))
        scaled = Volume(MODALITIES[modality].scale(reference.data), reference.affine)
        chosen = choose_device(cast(Device, device))  # it refuses any other name
        rows = []
        for case in cases(scaled, inside, every):
            for row in compare_case(case, section, chosen):
                rows.append({"unit": unit, **row})
                print(*(f"{key} {value}" for key, value in rows[-1].items() if value), flush=True)
        write_table(table, rows, COLUMNS)
        numbers |= {"n_rows": len(rows)}
