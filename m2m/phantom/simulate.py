"""Write simulated participants as a raw BIDS dataset, and their ground truth as a derivative."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from m2m import __version__
from m2m.io.bids import files_of, unit_folder, unit_of
from m2m.io.errors import DataError
from m2m.io.files import whole
from m2m.io.volume import Volume, save
from m2m.options import Phantom, Template
from m2m.options.configured import read_config, require_one
from m2m.options.section import parse_options
from m2m.options.stage_flags import ConfigFile, Root, Subject
from m2m.phantom import brain, individuals, list_anatomies, real_head, signal
from m2m.phantom.anatomy import load_template
from m2m.phantom.bundles import NAMES
from m2m.phantom.group_maps import load_group_maps
from m2m.phantom.group_streamlines import load_segments
from m2m.phantom.individuals import CENTRE_MM
from m2m.phantom.raw_dataset import distortion, known_participant, write_sessions, write_tables

OPTIONS_HELP = "JSON of the section `cohort.phantom` or `cohort.template`"
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
    options: Annotated[str | None, typer.Option(help=OPTIONS_HELP)] = None,
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
        simulation_of(config, options),
    )


def simulation_of(config: Path | None, options: str | None) -> Phantom | Template:
    """Load the section `cohort.phantom` or `cohort.template` from the configuration file or from its JSON."""
    require_one(config, options)
    if config is None:
        assert options is not None
        if "anatomies" in json.loads(options):
            return parse_options(Template, options)
        return parse_options(Phantom, options)
    section = read_config(config).simulation
    if section is None:
        raise DataError("cohort.source is bids: no participant is simulated", file=config)
    return section


@dataclass(frozen=True)
class Made:
    """A simulated participant, and how its scans are made.

    Attributes
    ----------
    head : brain.Brain
    t1 : function
        Of affine, shape and random generator: the T1.
    diffusion : function
        As `brain.simulate_diffusion`, whose arguments it takes.
    names : tuple of str
        Of the bundles.
    described : dict
        What the sidecar of the true FA says of the participant.
    """

    head: brain.Brain
    t1: Callable[..., NDArray]
    diffusion: Callable[..., brain.Diffusion]
    names: tuple[str, ...]
    described: dict[str, Any]


def of_phantom(section: Phantom, label: str, visit: int = 0) -> Made:
    """Make a participant from the MNI152 anatomy, as they are at a visit."""
    individual = individuals.draw(section, label, visit)
    head = brain.make_brain(individual, load_template(), section)

    def t1(affine: NDArray, shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray:
        return brain.simulate_t1(head, affine, shape, rng, section.t1_snr, section.t1_contrast)

    sizes = {
        "AffineVolumeOverTemplate": individual.brain_volume,
        "VentricleTargetOverTemplate": individual.ventricles,
    }
    kinds = (*NAMES, "radial")
    return Made(head, t1, brain.simulate_diffusion, NAMES, sizes | _of_kinds(individual, kinds))


def of_template(section: Template, label: str, truth: Path) -> Made:
    """Make a participant of a real T1 and the group's maps, which `m2m group-maps` wrote into `truth`."""
    path, age_years, sex = known_participant(section, label, list_anatomies(section.anatomies))
    segments = load_segments(section.bundles)
    registered = real_head.register_t1(path)
    head = real_head.make_head(section, label, registered, load_group_maps(truth), segments, age_years, sex)

    def t1(affine: NDArray, shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray:
        return real_head.simulate_t1(head, affine, shape, rng, section)

    described = {"Anatomy": path.name} | _of_kinds(head.individual, segments.names)
    return Made(head, t1, real_head.simulate_diffusion, segments.names, described)


def _of_kinds(drawn: individuals.Drawn, kinds: Sequence[str]) -> dict[str, Any]:
    """FA and myelin of each kind of fibre."""
    values = {"BundleFibreFA": drawn.fa, "BundleMyelin": drawn.myelin}
    return {key: dict(zip(kinds, of.tolist(), strict=True)) for key, of in values.items()}


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
    made: Made,
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
    drawn = made.head.individual
    individual_values = {
        "DwiWorldToT1World": drawn.pose.dwi_to_t1.tolist(),
        "AgeYears": drawn.age_years,
        "Sex": drawn.sex,
        **made.described,
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
                "Labels": {str(i): name for i, name in enumerate(made.names, 1)},
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
        DwiWorldToT1World=distorted.individual.pose.dwi_to_t1.tolist(),
    )


def simulate(
    root: Root,
    subject: Subject,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help=OPTIONS_HELP)] = None,
) -> None:
    """Simulate one participant: raw T1w and DWI, and the ground truth in the DWI's voxels; of every visit."""
    label = unit_of(subject).removeprefix("sub-")
    if not label.isdecimal():
        raise typer.BadParameter(f"--subject must be sub- and digits, got {subject!r}")
    section = simulation_of(config, options)
    for visit, session in enumerate(section.sessions or [None]):
        simulate_visit(root, section, label, visit, session)
    if isinstance(section, Phantom) and section.sessions:
        write_sessions(root / f"rawdata/sub-{label}/sub-{label}_sessions.tsv", section, label)


def simulate_visit(root: Path, section: Phantom | Template, label: str, visit: int, session: str | None) -> None:
    """Simulate one participant's scans of one visit, the first being 0, below the derivative dataset."""
    name = unit_of(f"sub-{label}", session)
    raw, truth = root / "rawdata" / unit_folder(name), files_of(name, root / "truth")
    dwi, bval, bvec = (raw / f"dwi/{name}_dwi.{suffix}" for suffix in ("nii.gz", "bval", "bvec"))
    maps = truth("truth-fa"), truth("truth-tensor"), truth("truth-bundles")
    displacement = truth("truth-displacement") if section.distortion_mm else None
    t1w = raw / f"anat/{name}_T1w.nii.gz"
    simulate_participant(label, t1w, dwi, bval, bvec, *maps, section, displacement, root / "truth", visit)


def simulate_participant(
    label: str,
    t1w: Path,
    dwi: Path,
    bval: Path,
    bvec: Path,
    truth_fa: Path,
    truth_tensor: Path,
    truth_bundles: Path,
    section: Phantom | Template,
    truth_displacement: Path | None = None,
    group: Path | None = None,
    visit: int = 0,
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
    section : Phantom or Template
    truth_displacement : path, optional
        Displacement field of the distorted DWI, written; needed where there is a distortion.
    group : path, optional
        Folder of the group's maps; needed where participants are made of real parts.
    visit : int
        The first one is 0.
    """
    if isinstance(section, Template):
        assert group is not None
        made = of_template(section, label, group)
    else:
        section = section.of_scanner(individuals.scanner_of(section, label))
        made = of_phantom(section, label, visit)
    pose = made.head.individual.pose

    affine, shape = grid(section.t1_spacing_mm, axes=pose.t1_axes)
    t1 = made.t1(affine, shape, individuals.stream(section.seed, label, "t1", visit))
    save(t1w, Volume(np.rint(t1 * T1_UNIT), affine), dtype=np.int16, **SCANNER, Description="Simulated; no skull")

    affine, shape = grid(section.dwi_spacing_mm, flip_x=True, axes=pose.dwi_axes)
    bvals, directions = signal.gradient_scheme(section.n_b0, section.n_directions, section.b_s_per_mm2)
    to_t1 = pose.dwi_to_t1
    affine_in_t1, rotated = to_t1 @ affine, directions @ to_t1[:3, :3].T
    diffusion = measured = made.diffusion(made.head, affine_in_t1, shape, bvals, rotated)
    if section.distortion_mm:
        encoding = affine_in_t1[:3, 1] / section.dwi_spacing_mm
        distorted = brain.distort(made.head, encoding, section, *grid(COARSE_MM, axes=pose.t1_axes))
        measured = made.diffusion(distorted, affine_in_t1, shape, bvals, rotated)
        assert truth_displacement is not None
        _save_displacement(truth_displacement, distorted, affine_in_t1, shape)
    series = np.zeros((int(np.prod(shape)), len(bvals)), dtype=np.float32)
    series[measured.inside] = measured.signal
    rng = individuals.stream(section.seed, label, "dwi", visit)
    series = signal.add_rician_noise(series, 1 / section.snr, rng)
    save(
        dwi,
        Volume(np.rint(series * DWI_UNIT).reshape(*shape, -1), affine),
        dtype=np.int16,
        **SCANNER,
        Description=f"Simulated; {distortion(section)}",
        PhaseEncodingDirection="j-",
        TotalReadoutTime=0.05,
        EchoTime=0.09,
        RepetitionTime=8.0,
    )
    _save_gradients(bval, bvec, bvals, directions, affine)
    _save_truth(diffusion, to_t1 @ affine, shape, made, truth_fa, truth_tensor, truth_bundles)
