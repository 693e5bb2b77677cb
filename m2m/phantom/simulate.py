"""Write simulated people as a raw BIDS dataset, with their truth beside."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from m2m import __version__
from m2m.io.bids import files_of, unit_of
from m2m.io.errors import DataError
from m2m.io.files import whole, write_json, write_text
from m2m.io.tables import write_table
from m2m.io.volume import Volume, save
from m2m.options import Phantom
from m2m.options.configured import read_config, require_one
from m2m.options.section import parse_options
from m2m.options.stage_flags import ConfigFile, Root, Subject
from m2m.phantom import brain, labels, people, signal
from m2m.phantom.anatomy import load_template
from m2m.phantom.bundles import NAMES

BIDS_VERSION = "1.9.0"
# Field of view (mm), the same for everybody; the scanner's origin lies in its middle.
FIELD_MM = (192.0, 228.0, 180.0)
CENTRE_MM = (0.0, -16.0, 4.0)
# Grid that a distortion is drawn on.
COARSE_MM = 4.0
# Stored values of white matter without diffusion weighting, and in T1.
DWI_UNIT, T1_UNIT = 1000.0, 1000.0
SCANNER = {
    "Modality": "MR",
    "Manufacturer": "simulated",
    "ManufacturersModelName": "m2m phantom",
    "SoftwareVersions": __version__,
}
README = """\
Simulated people
================

Every image in this dataset is simulated by m2m from the MNI152 anatomy (T1, grey and white matter
maps of 152 people, without skull). Nobody was scanned. T1w: no skull, smooth receive bias, Rician
noise. DWI: one shell, multi-tensor signal, Rician noise, {distortion}; the head moved a little
between the two scans. What these images show says that software works, never how the brain does.
"""


def grid(spacing_mm: float, flip_x: bool = False) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Affine and shape of a scan that covers the field of view; `flip_x` stores x leftwards."""
    shape = tuple(int(np.ceil(f / spacing_mm)) for f in FIELD_MM)
    affine = np.diag([-spacing_mm if flip_x else spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = np.array(CENTRE_MM) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine, shape


def participants(
    root: Root,
    config: ConfigFile = None,
    options: Annotated[
        str | None, typer.Option(help="JSON of the section `cohort.phantom`")
    ] = None,
) -> None:
    """Write the tables of the simulated dataset: who, what, and the names of the bundles."""
    raw, truth = root / "rawdata", root / "truth"
    write_tables(
        raw / "participants.tsv", raw / "participants.json", raw / "dataset_description.json",
        raw / "README", truth / "dataset_description.json", truth / "desc-bundles_dseg.tsv",
        phantom_of(config, options),
    )  # fmt: skip


def phantom_of(config: Path | None, options: str | None) -> Phantom:
    """The section `cohort.phantom`, from the file of the whole or from its JSON."""
    require_one(config, options)
    if config is None:
        return parse_options(Phantom, options)
    if (section := read_config(config).phantom) is None:
        raise DataError("cohort.source is not phantom: nobody is simulated", file=config)
    return section


def write_tables(
    participants: Path,
    sidecar: Path,
    description: Path,
    readme: Path,
    truth_description: Path,
    labels_table: Path,
    section: Phantom,
) -> None:
    """Write the tables of the simulated dataset."""
    rows = []
    for label in labels(section.n_subjects):
        age_years, sex = people.demography(section, label)
        rows.append({"participant_id": f"sub-{label}", "age": age_years, "sex": sex})
    write_table(participants, rows, ("participant_id", "age", "sex"))
    write_json(
        sidecar,
        {
            "age": {"Description": "Age at the scan", "Units": "year"},
            "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
        },
    )
    generated = {"Name": "m2m", "Version": __version__}
    write_json(
        description,
        {
            "Name": "Simulated people (m2m phantom)",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "License": "CC0",
            "GeneratedBy": [generated],
        },
    )
    write_json(
        truth_description,
        {
            "Name": "Truth of simulated people (m2m phantom)",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [generated],
        },
    )
    write_text(readme, README.format(distortion=_distortion(section)))
    write_table(
        labels_table,
        ({"index": i, "name": name} for i, name in enumerate(NAMES, 1)),
        ("index", "name"),
    )


def _distortion(section: Phantom) -> str:
    """Say whether the DWI is distorted."""
    mm = section.distortion_mm
    return f"distorted by up to {mm:g} mm" if mm else "no distortion"


def _save_gradients(
    bval: Path, bvec: Path, bvals: np.ndarray, directions: np.ndarray, affine: np.ndarray
) -> None:
    """Write b-values and b-vectors in FSL's convention."""
    vectors = signal.fsl_bvecs(directions, affine) + 0.0  # no negative zeros
    with whole(bval) as temporary:
        np.savetxt(temporary, bvals[None], fmt="%g")
    with whole(bvec) as temporary:
        np.savetxt(temporary, vectors, fmt="%.6f")


def _save_truth(
    diffusion: brain.Diffusion,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    person: people.Person,
    truth_fa: Path,
    truth_tensor: Path,
    truth_bundles: Path,
) -> None:
    """Write the truth at the DWI's voxels, with an affine to T1 world space."""
    shared = {
        "Space": "T1w",
        "Grid": "the voxels of the DWI, where the head was in them, placed in T1 world mm",
        "Units": "arbitrary",
    }
    moved = {
        "DwiWorldToT1World": person.dwi_to_t1.tolist(),
        "AgeYears": person.age_years,
        "Sex": person.sex,
        "AffineVolumeOverTemplate": person.brain_volume,
        "VentricleTargetOverTemplate": person.ventricles,
        "BundleFibreFA": dict(zip((*NAMES, "radial"), person.fa.tolist(), strict=True)),
        "BundleMyelin": dict(zip((*NAMES, "radial"), person.myelin.tolist(), strict=True)),
    }
    for path, values, dtype, sidecar in (
        (truth_fa, diffusion.fa, np.float32,
         shared | moved | {"Description": "FA of the tensor fitted to the noise-free signal"}),
        (truth_tensor, diffusion.tensor, np.float32,
         shared | {"Description": "Log-linear least-squares tensor of the noise-free signal, in "
                   "T1 world axes (RAS+)", "Units": "mm2/s",
                   "Elements": ["Dxx", "Dxy", "Dxz", "Dyy", "Dyz", "Dzz"]}),
        (truth_bundles, diffusion.labels, np.int16,
         shared | {"Description": "The strongest bundle of each white voxel",
                   "Labels": {str(i): name for i, name in enumerate(NAMES, 1)}}),
    ):  # fmt: skip
        data = np.zeros((int(np.prod(shape)), *values.shape[1:]), dtype=dtype)
        data[diffusion.inside] = values
        volume = Volume(data.reshape(*shape, *values.shape[1:]), affine)
        save(path, volume, dtype=dtype, **sidecar)


def _save_displacement(
    path: Path, distorted: brain.Brain, affine: np.ndarray, shape: tuple[int, int, int]
) -> None:
    """Write how far from a voxel's place lies what the distorted DWI shows there."""
    points = brain.grid_points(affine, shape)
    moved = (distorted.shown(points) - points).reshape(*shape, 3)
    description = (
        "At each voxel of the DWI, placed in T1 world: place of what it shows, minus its own"
    )
    moved_by = distorted.person.dwi_to_t1.tolist()
    save(
        path, Volume(moved, affine), Space="T1w", Units="mm, T1 world axes (RAS+)",
        Description=description, DwiWorldToT1World=moved_by,
    )  # fmt: skip


def simulate(
    root: Root,
    subject: Subject,
    config: ConfigFile = None,
    options: Annotated[
        str | None, typer.Option(help="JSON of the section `cohort.phantom`")
    ] = None,
) -> None:
    """Simulate one person: raw T1w and DWI, and the truth at the DWI's voxels."""
    name = unit_of(subject)
    label = name.removeprefix("sub-")
    if not label.isdecimal():
        raise typer.BadParameter(f"--subject must be sub- and digits, got {subject!r}")
    raw, truth = root / "rawdata" / name, files_of(name, root / "truth")
    scans = [raw / f"dwi/{name}_dwi.{suffix}" for suffix in ("nii.gz", "bval", "bvec")]
    maps = truth("truth-fa"), truth("truth-tensor"), truth("truth-bundles")
    section = phantom_of(config, options)
    displacement = truth("truth-displacement") if section.distortion_mm else None
    simulate_person(
        label, raw / f"anat/{name}_T1w.nii.gz", *scans, *maps, section, displacement
    )  # fmt: skip


def simulate_person(
    label: str,
    t1w: Path,
    dwi: Path,
    bval: Path,
    bvec: Path,
    truth_fa: Path,
    truth_tensor: Path,
    truth_bundles: Path,
    section: Phantom,
    truth_displacement: Path | None = None,
) -> None:
    """Simulate one person's scans, and what is known of them."""
    person = people.draw(section, label)
    subject = brain.make_brain(person, load_template(), section)

    affine, shape = grid(section.t1_spacing_mm)
    t1 = brain.simulate_t1(
        subject, affine, shape, people.stream(section.seed, label, "t1"), section.t1_snr
    )
    save(
        t1w, Volume(np.rint(t1 * T1_UNIT), affine), dtype=np.int16,
        **SCANNER, Description="Simulated; no skull",
    )  # fmt: skip

    affine, shape = grid(section.dwi_spacing_mm, flip_x=True)
    bvals, directions = signal.gradient_scheme(
        section.n_b0, section.n_directions, section.b_s_per_mm2
    )
    to_t1 = person.dwi_to_t1
    placed, turned = to_t1 @ affine, directions @ to_t1[:3, :3].T
    diffusion = shown = brain.simulate_diffusion(subject, placed, shape, bvals, turned)
    if section.distortion_mm:
        distorted = brain.distort(subject, to_t1[:3, 1], section, *grid(COARSE_MM))
        shown = brain.simulate_diffusion(distorted, placed, shape, bvals, turned)
        _save_displacement(truth_displacement, distorted, placed, shape)
    series = np.zeros((int(np.prod(shape)), len(bvals)), dtype=np.float32)
    series[shown.inside] = shown.signal
    rng = people.stream(section.seed, label, "dwi")
    series = signal.add_rician_noise(series, 1 / section.snr, rng)
    save(
        dwi, Volume(np.rint(series * DWI_UNIT).reshape(*shape, -1), affine), dtype=np.int16,
        **SCANNER, Description=f"Simulated; {_distortion(section)}", PhaseEncodingDirection="j-",
        TotalReadoutTime=0.05, EchoTime=0.09, RepetitionTime=8.0,
    )  # fmt: skip
    _save_gradients(bval, bvec, bvals, directions, affine)
    _save_truth(diffusion, to_t1 @ affine, shape, person, truth_fa, truth_tensor, truth_bundles)
