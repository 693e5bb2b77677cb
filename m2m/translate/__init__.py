"""Predict whole volumes with a trained model, from a T1, a BIDS folder or an image of the workflow.

In the workflow (`subject`, the stage `synthesise`) the source, a T1 or an FA map, is already on the
common grid (`predict`). Any other T1 is resampled to this grid first, and the prediction is
resampled back to the voxels of the T1 (`native`), for all T1s of a BIDS folder if needed (`folder`).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from m2m.io.errors import DataError
from m2m.io.overwriting import require_apart, require_outside, sidecar_of
from m2m.io.unit_status import recorded, require_ok
from m2m.models.engines import EngineName
from m2m.models.pretrained import DEFAULT, weights_of
from m2m.models.record import load_model
from m2m.models.record_schema import read_record
from m2m.models.validation_range import warning_of
from m2m.structural.slices import PLANES
from m2m.translate.outputs import Outputs, ProfileInputs, default_outputs, map_named_after, profile_outputs
from m2m.translate.predict import Network, predict_file, save_maps

WORKFLOW = "For a source on the common grid, as in the workflow"
PROFILES = "Profiles along named bundles"
# Exit code: some T1s of a folder could not be translated.
SOME_FAILED = 3


def parse_planes(text: str) -> tuple[str, ...]:
    """Parse a list such as ``axial,sagittal``; raise BadParameter for an unknown orientation."""
    planes = tuple(name for name in text.split(",") if name)
    if unknown := set(planes) - set(PLANES):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {PLANES}")
    return planes


def _refuse_overwriting(source: Path, out: Path, given: Sequence[Path | None], further: Sequence[Path | None]) -> None:
    """Raise BadParameter if an output is an input, or a folder of results lies in its dataset."""
    try:
        if source.is_dir():
            require_outside(out, source)
            return
        images = [path for path in given if path]
        outputs = [out, *(path for path in further if path)]
        default = default_outputs(out)
        outputs += [path for path, own in zip(default[1:], further[:2], strict=True) if not own]
        maps = [out, further[0] or default.sd]
        require_apart([*outputs, *map(sidecar_of, maps)], [*images, *map(sidecar_of, images)])
    except DataError as error:
        raise typer.BadParameter(str(error)) from error


def _default_out(source: Path, record: Path) -> Path:
    """Name the map of a T1 after it; raise BadParameter for a folder, or where the map would lie in its dataset."""
    if source.is_dir():
        raise typer.BadParameter("a folder needs --out, the folder of the results")
    target = read_record(record)["target"]
    try:
        return map_named_after(source, target)
    except DataError as error:
        raise typer.BadParameter(str(error)) from error


def _profile_inputs(bundles: bool, measured: list[Path], atlas: Path | None, on_grid: bool) -> ProfileInputs | None:
    """Combine the options of profiles; raise BadParameter where they do not go together."""
    if not bundles:
        if measured or atlas:
            raise typer.BadParameter("--measured and --atlas are for --bundles")
        return None
    if on_grid:
        raise typer.BadParameter("--bundles takes a T1 as it was acquired, without --anat-status")
    return ProfileInputs(atlas, tuple(measured))


def main(
    source: Annotated[Path, typer.Argument(help="T1w image, NIfTI; or a BIDS folder.")],
    weights: Annotated[
        str | None,
        typer.Option(
            help=f"model.safetensors of `m2m train`, or a name of `m2m models`. Default: {DEFAULT}, installed."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Map to write, .nii.gz; for a BIDS folder: a folder, needed. Default: here, named after the T1."
        ),
    ] = None,
    out_sd: Annotated[Path | None, typer.Option(help="Standard deviations to write. Default: OUT_sd.nii.gz.")] = None,
    figure: Annotated[Path | None, typer.Option(help="QC figure to write. Default: OUT.png.")] = None,
    brain: Annotated[Path | None, typer.Option(help="Brain mask on the source's voxels. Default: computed.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="Model's record. Default: model.json next to the weights.")
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option(help="What runs the network: ONNX Runtime where the model has model.onnx, or else PyTorch."),
    ] = EngineName.AUTO,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Slices per batch.")] = 4,
    planes: Annotated[
        str, typer.Option(help="Orientations to combine, e.g. axial,coronal. Default: the model's.")
    ] = "",
    bundles: Annotated[
        bool,
        typer.Option(
            "--bundles",
            help="Write profiles along bundles, too: OUT_bundles.tsv, .png, OUT_bundlemeans.tsv, OUT_tractogram.trx.",
            rich_help_panel=PROFILES,
        ),
    ] = False,
    measured: Annotated[
        list[Path] | None,
        typer.Option(
            help="Measured map in the world space of the T1; repeated: a second measurement.",
            rich_help_panel=PROFILES,
        ),
    ] = None,
    atlas: Annotated[
        Path | None,
        typer.Option(help="Reference map in MNI152 mm. Default: the model's own.", rich_help_panel=PROFILES),
    ] = None,
    repeats: Annotated[
        bool,
        typer.Option(
            "--repeats", help="Of a BIDS folder: compare the maps of several T1s of a participant and session."
        ),
    ] = False,
    anat_status: Annotated[
        Path | None,
        typer.Option(help="Status of `m2m anat`: the source is on the common grid.", rich_help_panel=WORKFLOW),
    ] = None,
    require: Annotated[
        list[Path] | None,
        typer.Option(help="Status of the stage that wrote the source; can be repeated.", rich_help_panel=WORKFLOW),
    ] = None,
    unit: Annotated[str, typer.Option(help="Name of the unit in the status file.", rich_help_panel=WORKFLOW)] = "",
    status: Annotated[
        Path | None,
        typer.Option(
            help="Status file to write, JSON; errors in the data are then recorded in it, with exit code 0.",
            rich_help_panel=WORKFLOW,
        ),
    ] = None,
    task: Annotated[str, typer.Option(help="Default: the task of the model.", rich_help_panel=WORKFLOW)] = "",
    low_res: Annotated[
        Path | None,
        typer.Option(help="Low-resolution map, for a model with this input.", rich_help_panel=WORKFLOW),
    ] = None,
) -> None:
    """Predict a map from a T1, or from each T1 of a BIDS folder, with standard deviation and QC figure.

    The map is on the voxels of the T1, in the unit of the target. Research only: no clinical use.

    A T1 that lies outside the range of the model's participants is translated with a warning.

    Exit codes: 0 done; 1 refused or failed, with the reason; 2 wrong call; 3 some T1s of a folder
    were not translated.
    """
    chosen_planes = parse_planes(planes)
    weights_path = weights_of(weights)
    network = Network(chosen_planes, batch_size, device, engine, weights_path)
    record = record or weights_path.with_name("model.json")
    out = out or _default_out(source, record)
    profiles = _profile_inputs(bundles, measured or [], atlas, on_grid=anat_status is not None)
    given = [source, weights_path, record, brain, low_res, anat_status, *(require or [])]
    further = [out_sd, figure, status]
    if profiles:
        given += profiles.files
        further += profile_outputs(out).files
    _refuse_overwriting(source, out, given, further)
    if repeats and (bundles or not source.is_dir()):
        raise typer.BadParameter("--repeats takes a BIDS folder, without --bundles")
    tensors, about = load_model(weights_path, record)
    if source.is_dir():
        if any((out_sd, figure, brain, anat_status, require, status, low_res, measured)):
            raise typer.BadParameter(
                "a folder takes --weights, --out, --record, --engine, --device, --batch-size, --planes, --bundles, "
                "--atlas, --repeats"
            )
        if repeats:
            from m2m.translate.repeats import Model, translate_repeats

            done, failed = translate_repeats(source, out, Model(tensors, about, weights_path, network))
        else:
            from m2m.translate.folder import translate_folder

            done, failed = translate_folder(source, out, weights_path, tensors, about, network, profiles)
        raise typer.Exit((SOME_FAILED if done else 1) if failed else 0)
    if not out.name.endswith((".nii", ".nii.gz")):
        raise typer.BadParameter(f"{out}: the name must end in .nii.gz or .nii")
    sources = [path for path in (source, brain, low_res, weights_path) if path]
    maps = [path for path in (out, out_sd) if path]
    context: AbstractContextManager[dict[str, Any]] = (
        recorded("translate", unit, status, maps) if status else nullcontext({})
    )
    with context as numbers:
        require_ok(*(require or []))
        if anat_status:
            prediction = predict_file(source, brain, anat_status, tensors, about, network, low_res)
            save_maps(prediction, out, out_sd, sources, about, task)
        else:
            # Imported here: only a T1 that is not on the common grid needs registration.
            from m2m.translate.native import translate_t1

            default = default_outputs(out)
            outputs = Outputs(out, out_sd or default.sd, figure or default.figure)
            with tqdm(total=6 if profiles else 4, disable=None, bar_format="{desc} {n}/{total} [{elapsed}]") as bar:

                def step(name: str) -> None:
                    bar.set_description(name)
                    bar.update()

                details = translate_t1(source, brain, tensors, about, network, outputs, sources, step, profiles)
            for entry in details.get("OutsideValidationRange", ()):
                typer.echo(f"warning: {warning_of(entry, source)}", err=True)
            print(*outputs, *(profile_outputs(out) if profiles else []), sep="\n")
        numbers |= {"task": task or about["task"]}
        numbers |= {key: about[key] for key in ("model", "weights")}
