"""Write simulated participants as a raw BIDS dataset, and their ground truth as a derivative."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from m2m import GENERATED_BY, __version__
from m2m.io.bids import files_of, unit_of
from m2m.io.dataset_links import RAW, links
from m2m.io.errors import DataError
from m2m.io.files import whole, write_json, write_text
from m2m.io.tables import write_table
from m2m.io.volume import Volume, save
from m2m.options import Phantom
from m2m.options.configured import read_config, require_one
from m2m.options.section import parse_options
from m2m.options.stage_flags import ConfigFile, Root, Subject
from m2m.phantom import brain, individuals, labels, signal
from m2m.phantom.anatomy import load_template
from m2m.phantom.bundles import NAMES
from m2m.phantom.individuals import CENTRE_MM

BIDS_VERSION = "1.9.0"
# Field of view (mm), the same for all participants.
FIELD_MM = (192.0, 228.0, 180.0)
# Spacing of the grid on which a distortion is drawn.
COARSE_MM = 4.0
# Factors from signal to stored integers, of DWI and T1.
DWI_UNIT, T1_UNIT = 1000.0, 1000.0
SCANNER = {
    "Modality": "MR",
    "Manufacturer": "simulated",
    "ManufacturersModelName": "m2m phantom",
    "SoftwareVersions": __version__,
}
README = """\
Simulated participants
======================

All images of this dataset are simulated by m2m from the MNI152 anatomy (average T1, grey and white
matter maps of 152 participants, without skull). No participant was scanned. T1w: no skull, smooth
receive bias, Rician noise. DWI: one shell, multi-tensor signal, Rician noise, {distortion};
the head moves a little between the two scans. {oblique} These images test software. They give no
information about the human brain.
"""


def grid(
    spacing_mm: float, flip_x: bool = False, axes: np.ndarray | None = None
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Affine and shape of a scan of the field of view.

    Parameters
    ----------
    spacing_mm : float
    flip_x : bool
        Whether x runs to the left.
    axes : ndarray, shape (3, 3), optional
        Columns: axes of the field of view in world axes; default: not oblique.

    Returns
    -------
    affine : ndarray, shape (4, 4)
    shape : (int, int, int)
    """
    x, y, z = (int(np.ceil(f / spacing_mm)) for f in FIELD_MM)
    shape = (x, y, z)
    affine = np.diag([-spacing_mm if flip_x else spacing_mm, spacing_mm, spacing_mm, 1.0])
    if axes is not None:
        affine[:3, :3] = axes @ affine[:3, :3]
    affine[:3, 3] = np.array(CENTRE_MM) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine, shape


def participants(
    root: Root,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section `cohort.phantom`")] = None,
) -> None:
    """Write the tables of the simulated dataset: participants, descriptions, names of the bundles."""
    raw, truth = root / "rawdata", root / "truth"
    write_tables(
        raw / "participants.tsv",
        raw / "participants.json",
        raw / "dataset_description.json",
        raw / "README",
        truth / "dataset_description.json",
        truth / "desc-bundles_dseg.tsv",
        phantom_of(config, options),
    )


def phantom_of(config: Path | None, options: str | None) -> Phantom:
    """Load the section `cohort.phantom` from the configuration file or from its JSON."""
    require_one(config, options)
    if config is None:
        assert options is not None
        return parse_options(Phantom, options)
    if (section := read_config(config).phantom) is None:
        raise DataError("cohort.source is not phantom: no participant is simulated", file=config)
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
    """Write the tables of the simulated dataset.

    Parameters
    ----------
    participants, sidecar : path
        Table of the participants, and the JSON that describes its columns.
    description, readme : path
        Of the raw dataset.
    truth_description : path
        Of the derivative with the ground truth.
    labels_table : path
        Number and name of each bundle.
    section : Phantom
    """
    linked = links(truth_description.parent, str(description.parent))
    rows = []
    for label in labels(section.n_subjects):
        age_years, sex = individuals.demography(section, label)
        rows.append({"participant_id": f"sub-{label}", "age": age_years, "sex": sex})
    write_table(participants, rows, ("participant_id", "age", "sex"))
    write_json(
        sidecar,
        {
            "age": {"Description": "Age at the scan", "Units": "year"},
            "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
        },
    )
    write_json(
        description,
        {
            "Name": "Simulated participants (m2m phantom)",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "License": "CC0",
            "GeneratedBy": GENERATED_BY,
        },
    )
    write_json(
        truth_description,
        {
            "Name": "Ground truth of simulated participants (m2m phantom)",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": GENERATED_BY,
            "SourceDatasets": [{"URL": linked[RAW]}],
            "DatasetLinks": linked,
        },
    )
    write_text(readme, README.format(distortion=_distortion(section), oblique=_oblique(section)))
    write_table(
        labels_table,
        ({"index": i, "name": name} for i, name in enumerate(NAMES, 1)),
        ("index", "name"),
    )


def _distortion(section: Phantom) -> str:
    """Describe the distortion of the DWI."""
    mm = section.distortion_mm
    return f"distorted by up to {mm:g} mm" if mm else "no distortion"


def _oblique(section: Phantom) -> str:
    """Describe the orientation of the scans."""
    deg = section.oblique_deg
    return f"Both scans are oblique, by up to {deg:g} degrees." if deg else "No scan is oblique."


def _save_gradients(bval: Path, bvec: Path, bvals: np.ndarray, directions: np.ndarray, affine: np.ndarray) -> None:
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
    individual: individuals.Individual,
    truth_fa: Path,
    truth_tensor: Path,
    truth_bundles: Path,
) -> None:
    """Write the ground truth in the DWI's voxels, with an affine to T1 world space."""
    shared = {
        "Space": "T1w",
        "Grid": "the voxels of the DWI; the affine maps them to T1 world mm by the head's motion",
        "Units": "arbitrary",
    }
    individual_values = {
        "DwiWorldToT1World": individual.dwi_to_t1.tolist(),
        "AgeYears": individual.age_years,
        "Sex": individual.sex,
        "AffineVolumeOverTemplate": individual.brain_volume,
        "VentricleTargetOverTemplate": individual.ventricles,
        "BundleFibreFA": dict(zip((*NAMES, "radial"), individual.fa.tolist(), strict=True)),
        "BundleMyelin": dict(zip((*NAMES, "radial"), individual.myelin.tolist(), strict=True)),
    }
    for path, values, dtype, sidecar in (
        (
            truth_fa,
            diffusion.fa,
            np.float32,
            shared | individual_values | {"Description": "FA of the tensor fitted to the noise-free signal"},
        ),
        (
            truth_tensor,
            diffusion.tensor,
            np.float32,
            shared
            | {
                "Description": "Log-linear least-squares tensor of the noise-free signal, in T1 world axes (RAS+)",
                "Units": "mm2/s",
                "Elements": ["Dxx", "Dxy", "Dxz", "Dyy", "Dyz", "Dzz"],
            },
        ),
        (
            truth_bundles,
            diffusion.labels,
            np.int16,
            shared
            | {
                "Description": "The strongest bundle of each white voxel",
                "Labels": {str(i): name for i, name in enumerate(NAMES, 1)},
            },
        ),
    ):
        data = np.zeros((int(np.prod(shape)), *values.shape[1:]), dtype=dtype)
        data[diffusion.inside] = values
        volume = Volume(data.reshape(*shape, *values.shape[1:]), affine)
        save(path, volume, dtype=dtype, **sidecar)


def _save_displacement(path: Path, distorted: brain.Brain, affine: np.ndarray, shape: tuple[int, int, int]) -> None:
    """Write the displacement field of the distorted DWI."""
    points = brain.grid_points(affine, shape)
    displacement = (distorted.shown(points) - points).reshape(*shape, 3)
    description = "At each voxel of the DWI, in T1 world: position of the tissue in its value, minus its own position"
    save(
        path,
        Volume(displacement, affine),
        Space="T1w",
        Units="mm, T1 world axes (RAS+)",
        Description=description,
        DwiWorldToT1World=distorted.individual.dwi_to_t1.tolist(),
    )


def simulate(
    root: Root,
    subject: Subject,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section `cohort.phantom`")] = None,
) -> None:
    """Simulate one participant: raw T1w and DWI, and the ground truth in the DWI's voxels."""
    name = unit_of(subject)
    label = name.removeprefix("sub-")
    if not label.isdecimal():
        raise typer.BadParameter(f"--subject must be sub- and digits, got {subject!r}")
    raw, truth = root / "rawdata" / name, files_of(name, root / "truth")
    dwi, bval, bvec = (raw / f"dwi/{name}_dwi.{suffix}" for suffix in ("nii.gz", "bval", "bvec"))
    maps = truth("truth-fa"), truth("truth-tensor"), truth("truth-bundles")
    section = phantom_of(config, options)
    displacement = truth("truth-displacement") if section.distortion_mm else None
    t1w = raw / f"anat/{name}_T1w.nii.gz"
    simulate_participant(label, t1w, dwi, bval, bvec, *maps, section, displacement)


def simulate_participant(
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
    """Simulate one participant's scans and their ground truth.

    Parameters
    ----------
    label : str
        Digits.
    t1w, dwi, bval, bvec : path
        Scans, written.
    truth_fa, truth_tensor, truth_bundles : path
        Ground truth in the DWI's voxels, written.
    section : Phantom
    truth_displacement : path, optional
        Displacement field of the distorted DWI, written; needed where there is a distortion.
    """
    individual = individuals.draw(section, label)
    subject = brain.make_brain(individual, load_template(), section)

    affine, shape = grid(section.t1_spacing_mm, axes=individual.t1_axes)
    t1 = brain.simulate_t1(subject, affine, shape, individuals.stream(section.seed, label, "t1"), section.t1_snr)
    save(t1w, Volume(np.rint(t1 * T1_UNIT), affine), dtype=np.int16, **SCANNER, Description="Simulated; no skull")

    affine, shape = grid(section.dwi_spacing_mm, flip_x=True, axes=individual.dwi_axes)
    bvals, directions = signal.gradient_scheme(section.n_b0, section.n_directions, section.b_s_per_mm2)
    to_t1 = individual.dwi_to_t1
    affine_in_t1, rotated = to_t1 @ affine, directions @ to_t1[:3, :3].T
    diffusion = measured = brain.simulate_diffusion(subject, affine_in_t1, shape, bvals, rotated)
    if section.distortion_mm:
        encoding = affine_in_t1[:3, 1] / section.dwi_spacing_mm
        distorted = brain.distort(subject, encoding, section, *grid(COARSE_MM, axes=individual.t1_axes))
        measured = brain.simulate_diffusion(distorted, affine_in_t1, shape, bvals, rotated)
        assert truth_displacement is not None
        _save_displacement(truth_displacement, distorted, affine_in_t1, shape)
    series = np.zeros((int(np.prod(shape)), len(bvals)), dtype=np.float32)
    series[measured.inside] = measured.signal
    rng = individuals.stream(section.seed, label, "dwi")
    series = signal.add_rician_noise(series, 1 / section.snr, rng)
    save(
        dwi,
        Volume(np.rint(series * DWI_UNIT).reshape(*shape, -1), affine),
        dtype=np.int16,
        **SCANNER,
        Description=f"Simulated; {_distortion(section)}",
        PhaseEncodingDirection="j-",
        TotalReadoutTime=0.05,
        EchoTime=0.09,
        RepetitionTime=8.0,
    )
    _save_gradients(bval, bvec, bvals, directions, affine)
    _save_truth(diffusion, to_t1 @ affine, shape, individual, truth_fa, truth_tensor, truth_bundles)
