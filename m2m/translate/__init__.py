"""Translate whole volumes with a trained model: a T1, a folder of them, a participant's image.

Of a participant of the workflow (`subject`, the stage `synthesise`) the source, a T1 or an FA map,
is on the common grid already (`predict`). Any other T1 is brought there first, and the prediction
is carried back to its voxels (`native`); a BIDS folder is so many of them (`folder`).
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from m2m.io.unit_status import recorded, require_ok
from m2m.models.record import load_model
from m2m.structural.slices import PLANES
from m2m.translate.predict import Network, predict_file, save_maps

WORKFLOW = "For a source on the common grid, as the workflow has it"
# Of a folder some T1s were translated and some were not.
SOME_FAILED = 3


def parse_planes(text: str) -> tuple[str, ...]:
    """Read a list such as ``axial,sagittal``; raise BadParameter at an unknown orientation."""
    planes = tuple(name for name in text.split(",") if name)
    if unknown := set(planes) - set(PLANES):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {PLANES}")
    return planes


def main(
    source: Annotated[Path, typer.Argument(help="T1w, NIfTI; or a BIDS folder of them.")],
    weights: Annotated[Path, typer.Option(help="model.safetensors of `m2m train`.")],
    out: Annotated[Path, typer.Option(help="Map to write, .nii.gz; of a BIDS folder, a folder.")],
    out_sd: Annotated[
        Path | None, typer.Option(help="Standard deviations to write. Default: OUT_sd.nii.gz.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Quality picture to write. Default: OUT.png.")
    ] = None,
    brain: Annotated[
        Path | None, typer.Option(help="Brain mask on the source's voxels. Default: found.")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Default: model.json by the weights.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Slices at a time.")] = 4,
    planes: Annotated[str, typer.Option(help="Orientations to join, e.g. axial,coronal.")] = "",
    anat_status: Annotated[
        Path | None,
        typer.Option(help="Status of `m2m anat`: it is there.", rich_help_panel=WORKFLOW),
    ] = None,
    require: Annotated[
        list[Path] | None,
        typer.Option(help="Status of what made the source; repeat.", rich_help_panel=WORKFLOW),
    ] = None,
    unit: Annotated[
        str, typer.Option(help="Name in the status file.", rich_help_panel=WORKFLOW)
    ] = "",
    status: Annotated[
        Path | None,
        typer.Option(
            help="Status file to write, JSON; bad data then end in it, with exit code 0.",
            rich_help_panel=WORKFLOW,
        ),
    ] = None,
    task: Annotated[
        str, typer.Option(help="Default: that of the model.", rich_help_panel=WORKFLOW)
    ] = "",
    low: Annotated[
        Path | None,
        typer.Option(help="Map for a model that sees a low one.", rich_help_panel=WORKFLOW),
    ] = None,
) -> None:
    """Translate a T1, or a BIDS folder of T1s: synthetic map, standard deviation, quality picture.

    The result is on the T1's own voxels, in the target's unit. Research only: no clinical use.

    Exit codes: 0 done; 1 refused or failed, with the reason; 2 wrong call; 3 some of a folder's
    T1s were not translated.
    """
    network = Network(parse_planes(planes), batch_size, device)
    tensors, about = load_model(weights, record or weights.with_name("model.json"))
    if source.is_dir():
        if any((out_sd, picture, brain, anat_status, require, status, low)):
            raise typer.BadParameter("of a folder, only --weights, --out and how to run are given")
        from m2m.translate.folder import translate_folder

        done, failed = translate_folder(source, out, weights, tensors, about, network)
        raise typer.Exit((SOME_FAILED if done else 1) if failed else 0)
    if not out.name.endswith((".nii", ".nii.gz")):
        raise typer.BadParameter(f"{out}: the name must end in .nii.gz or .nii")
    sources = [path for path in (source, brain, low, weights) if path]
    maps = [path for path in (out, out_sd) if path]
    with recorded("translate", unit, status, maps) if status else nullcontext({}) as numbers:
        require_ok(*(require or []))
        if anat_status:
            found = predict_file(source, brain, anat_status, tensors, about, network, low)
            save_maps(found, out, out_sd, sources, about, task)
        else:
            # Registration to the template, which a source on the common grid has no need of.
            from m2m.translate.native import Outputs, outputs_beside, translate_t1

            beside = outputs_beside(out)
            outputs = Outputs(out, out_sd or beside.sd, picture or beside.picture)
            with tqdm(total=4, disable=None, bar_format="{desc} {n}/{total} [{elapsed}]") as bar:

                def step(name: str) -> None:
                    bar.set_description(name)
                    bar.update()

                translate_t1(source, brain, tensors, about, network, outputs, sources, step)
            print(*outputs, sep="\n")
        numbers |= {"task": task or about["task"]}
        numbers |= {key: about[key] for key in ("model", "weights")}
