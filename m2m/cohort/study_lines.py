"""The lines of a study.yaml: choices for a dataset, with comments that are true of it."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

import yaml

import m2m
from m2m.cohort.split import part_sizes
from m2m.cohort.survey import Phenotype, Survey
from m2m.io.bvalues import SHELL_GAP_S_PER_MM2
from m2m.options import Anat, Downstream, Dti, Losses, Split
from m2m.options.config_schema import EDITOR_LINE
from m2m.options.downstream_options import Column
from m2m.options.real_options import Real

COLUMN = get_args(Column)[1].metadata[0].pattern
# From so many participants on: m2m's default network, and that of config.paper.yaml.
MIDDLE, LARGE = 100, 1000
FINEST_MM, COARSEST_MM, STEP_MM = 1.25, 5.0, 0.25
# Networks halve a slice several times.
MULTIPLE = 8
# Standard deviation (mm) of the Gaussian that makes the low frequencies: 1.5 pixels of 3 mm.
SIGMA_MM = 4.5
# No more kinds of voxels, reasons and columns are named.
MOST_NAMED, MOST_COLUMNS = 4, 6
# Column that comments beside a key start in.
INDENT = 27


def spacing_of(found: Survey) -> float:
    """Spacing of the common grid (mm): the median voxel of DWI and T1w, whichever is coarser.

    The size of a voxel is the cube root of its volume; the result is a multiple of `STEP_MM`.
    """
    sides = [[math.prod(scan.spacing_mm) ** (1 / 3) for scan in scans] for scans in (found.series, found.t1s)]
    coarser = max(sorted(side)[len(side) // 2] for side in sides)
    return min(max(round(coarser / STEP_MM) * STEP_MM, FINEST_MM), COARSEST_MM)


def shape_of(found: Survey, spacing_mm: float) -> tuple[int, int, int]:
    """Voxels of the common grid along x, y and z: the largest field of view, or what any brain needs.

    The default grid has room for any brain; a smaller field of view cannot hold more than itself.
    """
    default = Anat()
    room = [(n - 1) * default.spacing_mm for n in default.shape]
    extent = [min(pair) for pair in zip(largest_view(found), room, strict=True)]
    x, y, z = (MULTIPLE * math.ceil((math.ceil(mm / spacing_mm) + 1) / MULTIPLE) for mm in extent)
    return x, y, z


def largest_view(found: Survey) -> list[float]:
    """Largest field of view of the T1w along x, y and z, mm."""
    return [max(mm) for mm in zip(*(t1.extent_mm for t1 in found.t1s), strict=True)]


def shell_limit(found: Survey) -> float:
    """Highest b-value of the tensor fit (s/mm2): the default, more only where no series can be fitted below."""
    fit, least = Dti(), min(one.least_b for one in found.series)
    default = fit.max_b_s_per_mm2
    return default if least <= default + fit.b_tolerance_s_per_mm2 else 50.0 * math.ceil(least / 50)


def noted(text: str, *comments: str) -> list[str]:
    """A line with a comment beside it, and further lines of the comment below."""
    first, *more = comments
    return [f"{text:<{INDENT - 2}}  # {first}", *(" " * INDENT + f"# {line}" for line in more)]


def plain(text: str) -> str:
    """A text that a comment can hold: one line, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def scalar(text: str) -> str:
    """A text as YAML: quoted where it would be read as something else."""
    try:
        same = yaml.safe_load(f"[{text}]") == [text]
    except yaml.YAMLError:
        same = False
    return text if same and text == plain(text) else yaml.safe_dump(text, default_style='"', width=math.inf).strip()


def span(values: Iterable[float], unit: str = "") -> str:
    """Lowest and highest of some numbers: ``928 to 1000 s/mm2``."""
    values = list(values)
    ends = dict.fromkeys(f"{value:g}" for value in (min(values), max(values)))
    return " to ".join(ends) + unit


def frequent(texts: Iterable[str]) -> str:
    """Different texts with their numbers, the most frequent first."""
    counts = Counter(texts).most_common()
    rest = len(counts) - MOST_NAMED
    named = [f"{text} ({n})" for text, n in counts[:MOST_NAMED]]
    return ", ".join(named + [f"{rest} more"] * (rest > 0))


def sizes(scans: Sequence[Any]) -> str:
    """Voxel sizes of scans with the number of scans."""
    return frequent(" x ".join(f"{mm:g}" for mm in scan.spacing_mm) for scan in scans)


def cohort_lines(found: Survey, dataset: str) -> Iterator[str]:
    """Who is in the dataset, and where it is."""
    yield f"# Written by `m2m init` (m2m {m2m.__version__}) for the dataset below, by its headers, gradient tables and"
    yield "# participants.tsv; voxels were not read. Keys left out have their defaults: docs/stages, config.yaml."
    if labels := found.sessions:
        named = plain(", ".join(labels[:MOST_NAMED])) + ", ..." * (len(labels) > MOST_NAMED)
        where = "T1w and DWI" + " in one session" * (not found.needed.n_by_session)
        yield f"# {found.participants()} participants, {found.participants('paired')} with {where}."
        yield f"# Sessions: {named}. Units, a participant in one session each: {len(found.units)}; {found.counts}."
    else:
        yield f"# {found.participants()} participants: {found.counts}."
    for reason, count in found.reasons()[:MOST_NAMED]:
        yield f"#   {count} x {plain(reason)[:100]}"
    yield ""
    yield from noted(
        f"dataset: {scalar(dataset)}", f"results go to results/{plain(dataset)}, below the folder of the call"
    )
    yield "cohort:"
    yield "  source: bids"
    yield f"  bids_dir: {scalar(str(found.root.resolve()))}"
    if n := found.needed.n_by_session:
        why = f"else dropped, T1w and DWI being of different sessions: {n} of {found.participants()} participants"
        yield from noted("  t1w_of_other_session: true", why, "false where a brain may have changed between them")
    yield ""


def split_lines(found: Survey) -> Iterator[str]:
    """How those with both scans are divided."""
    both, section = found.participants("paired"), Split()
    parts = part_sizes(both, section.validation, section.test)
    families = "about " if "family_id" in found.columns else ""
    yield "split:"
    yield from noted(
        f"  validation: {section.validation:g}",
        f"of {both}: {families}{parts['train']} to train on, {parts['validation']} to choose models on, "
        f"{parts['test']} to test on",
    )
    yield f"  test: {section.test:g}"
    yield ""


def diffusion_lines(found: Survey) -> Iterator[str]:
    """Corrections, tensor fit and mask, by the series found."""
    n, limit = len(found.series), shell_limit(found)
    corrected, masks = found.preprocessed["dwi"], found.masks["dwi"]
    if corrected:
        yield f"# {corrected} of {n} DWI are desc-preproc, as QSIPrep writes them: no correction is made here."
    else:
        yield f"# None of {n} DWI is desc-preproc: they are fitted as they are. Where MRtrix3 or FSL is installed,"
        yield "# the section `preprocess` corrects them first: docs/stages/diffusion/preprocess.md."
    yield "dti:"
    fitted = [f"b-values of the {n} series beside a T1w:"]
    for values, count, directions in pooled_shells(found):
        fitted.append(f"  {span(values)} s/mm2 in {count}, {span(directions)} directions")
    tolerated = limit + Dti().b_tolerance_s_per_mm2
    if above := sum(one.least_b > tolerated for one in found.series):
        fitted.append(f"too few directions up to {limit:g}, hence fitted up to the next shell that suffices: {above}")
    yield from noted(f"  max_b_s_per_mm2: {limit:g}", *fitted)
    if n_more := found.needed.n_by_b0:
        why = f"else dropped, having no volume of a lower b: {n_more} of {found.participants()} participants"
        yield from noted(f"  b0_threshold_s_per_mm2: {found.needed.b0_threshold:g}", why)
    method = "supplied" if masks == n else "median_otsu"
    yield from noted(f"  mask: {{method: {method}}}", f"a brain mask lies beside {masks} of {n} series")
    yield ""


def pooled_shells(found: Survey) -> list[tuple[list[int], int, list[int]]]:
    """Shells of all series: b-values (s/mm2), number of series, directions; the lowest b first."""
    every = sorted((round(b), place, n) for place, one in enumerate(found.series) for b, n in one.shells)
    groups: list[list[tuple[int, int, int]]] = []
    for shell in every:
        if not groups or shell[0] - groups[-1][-1][0] > SHELL_GAP_S_PER_MM2:
            groups.append([])
        groups[-1].append(shell)
    return [([b for b, _, _ in g], len({place for _, place, _ in g}), [n for _, _, n in g]) for g in groups]


def grid_lines(found: Survey) -> Iterator[str]:
    """The common grid, by the voxels found."""
    spacing = spacing_of(found)
    shape = shape_of(found, spacing)
    views, room = largest_view(found), [(n - 1) * spacing for n in shape]
    yield "anat:"
    yield from noted(
        f"  spacing_mm: {spacing:g}",
        f"voxels of DWI, mm (scans): {sizes(found.series)}",
        f"of T1w: {sizes(found.t1s)}",
    )
    yield from noted(
        f"  shape: [{', '.join(map(str, shape))}]",
        f"room for a brain of {' x '.join(f'{mm:g}' for mm in room)} mm (x, y, z);",
        f"the largest field of view of a T1w is {' x '.join(f'{mm:.0f}' for mm in views)} mm",
    )
    n, masks, preprocessed = len(found.t1s), found.masks["T1w"], found.preprocessed["T1w"]
    yield f"  # Of {n} T1w, desc-preproc: {preprocessed}; with a brain mask beside it, which is used: {masks}."
    yield ""


def network_of(found: Survey) -> str:
    """Name of the network: without octave convolutions it is m2m."""
    return "m2m" if found.participants("paired") < MIDDLE else "macro2micro"


def model_lines(found: Survey) -> Iterator[str]:
    """Models by the number of participants to learn from, and what they are compared with."""
    both, spacing = found.participants("paired"), spacing_of(found)
    yield f"# {both} participants with both scans, by whose number `m2m init` chooses the network: below {MIDDLE} m2m,"
    yield f"# the small one of config.yaml, which CPUs can train; from {MIDDLE} macro2micro, with octaves; from"
    yield f"# {LARGE} at the size of config.paper.yaml, for GPUs. Steps are a start: look at the training curves."
    yield "models:"
    yield f"  {network_of(found)}:"
    yield "    family: macro2micro"
    sigma = round(SIGMA_MM / spacing, 1)
    if both < MIDDLE:
        yield "    network: {context: 3, alpha: 0, widths: [16, 32, 64, 128], entry: false}"
        yield "    discriminators: {every: 4}"
        yield "    training: {steps: 1500, batch_size: 6, learning_rate: 1.5e-3}"
    elif both < LARGE:
        yield "    training: {steps: 20000, validate_every: 500, checkpoint_every: 500}"
    else:
        yield "    network: {context: 5, alpha: 0.5, widths: [64, 128, 256, 512]}"
        yield "    discriminators: {width: 64, crops: 8, crop_size: 128}"
        yield "    training: {steps: 400000, batch_size: 8, learning_rate: 1.0e-4, workers: 8,"
        yield "      validate_every: 5000, checkpoint_every: 5000}"
    if sigma != Losses().low_frequency_sigma_px:
        yield from noted(f"    losses: {{low_frequency_sigma_px: {sigma:g}}}", f"{SIGMA_MM:g} mm")
    yield from noted("  mean: {family: mean}", "the training participants' mean map, which a network must beat")
    yield from noted("  t1: {family: t1}", "the T1w itself, rescaled")
    yield ""


def task_lines(found: Survey) -> Iterator[str]:
    """What is translated: FA, and what the same scans allow besides."""
    most, network = max(n for one in found.series for _, n in one.shells), network_of(found)
    yield "tasks:"
    yield f"  t1-fa: {{source: t1, target: fa, models: [{network}, mean, t1]}}"
    yield "  # Possible with these scans, too; each trains a network more:"
    yield f"  # t1-md: {{source: t1, target: md, models: [{network}, mean, t1]}}"
    yield from noted(
        f"  # t1-tdi: {{source: t1, target: tdi, models: [{network}, mean, t1]}}",
        f"tract density; at most {most} directions in a shell",
    )
    yield ""


def named_phenotypes(found: Survey) -> list[Phenotype]:
    """Phenotypes whose name a configuration may have."""
    return [one for one in found.phenotypes if re.fullmatch(COLUMN, one.name)]


def analysable(found: Survey) -> list[Phenotype]:
    """Named phenotypes that enough participants have: numbers altogether, classes each."""
    fewest = Downstream().min_subjects
    return [
        one
        for one in named_phenotypes(found)
        if min(Counter(one.values).values() if one.kind == "classification" else [len(one.values)]) >= fewest
    ]


def downstream_lines(found: Survey) -> Iterator[str]:
    """Columns of participants.tsv that could be predicted, as a section in comments."""
    if not found.columns:
        yield "# No participants.tsv: no phenotype can be predicted from the maps (`snakemake downstream`)."
        return
    if not (usual := named_phenotypes(found)):
        yield "# participants.tsv has no phenotype that differs among participants with both scans."
        return
    both, fewest = found.participants("paired"), Downstream().min_subjects
    yield "# Do the maps carry a phenotype? For `snakemake downstream`, which trains further networks, uncomment the"
    yield f"# section. It needs {fewest} participants, in each class {fewest}. Among the {both} with both scans:"
    yield from phenotype_lines(usual)
    yield "# downstream:"
    yield f"#   targets: {targets(usual)}"
    yield "#   tasks: [t1-fa]"


def phenotype_lines(usual: Sequence[Phenotype]) -> Iterator[str]:
    """Values of the first phenotypes, as comments."""
    for one in usual[:MOST_COLUMNS]:
        yield f"#   {plain(one.name)}: {described(one)}"
    if len(usual) > MOST_COLUMNS:
        yield f"#   and {len(usual) - MOST_COLUMNS} more columns"


def targets(usual: Sequence[Phenotype]) -> str:
    """The first phenotypes as the option `downstream.targets`."""
    return "{" + ", ".join(f"{scalar(one.name)}: {one.kind}" for one in usual[:MOST_COLUMNS]) + "}"


def without_dwi_lines(found: Survey) -> Iterator[str]:
    """Grid and section `downstream` where T1w are all there is: nothing is trained."""
    usual, grid, fewest = named_phenotypes(found), Real().anat, Downstream().min_subjects
    yield "anat:"
    yield from noted(f"  spacing_mm: {grid.spacing_mm:g}", f"that of the installed weights; T1w: {sizes(found.t1s)}")
    yield f"  shape: [{', '.join(map(str, grid.shape))}]"
    yield ""
    yield "# No usable DWI: nothing is trained or compared with a measured map. The weights that are installed with"
    yield "# m2m predict FA from each T1w, and what T1w and synthetic FA tell of the phenotypes is compared. A"
    yield "# synthetic map is a function of the T1w and cannot tell more. An analysis needs"
    yield f"# {fewest} participants, in each class {fewest}. Among the {found.participants('t1w-only')} with a T1w:"
    yield from phenotype_lines(usual)
    yield "downstream:"
    yield f"  targets: {targets(analysable(found))}"
    yield "  weights: {synthetic: pretrained}"
    yield "  # atlas: FA_MNI152.nii.gz  # a group average of FA, deformed to each T1w as a further input"
    yield "# Regions of the predictors and figures, an atlas in MNI152 space with its table (index, name):"
    yield "# evaluation: {rois: {image: regions_MNI152.nii.gz, space: MNI152, labels: regions.tsv}}"


def described(one: Phenotype) -> str:
    """Values of a phenotype: their number, and their range or the classes."""
    if one.kind == "regression":
        return f"a number, known of {len(one.values)}, {span(map(float, one.values))}"
    return f"classes, known of {len(one.values)}: {plain(frequent(one.values))}"


def study_text(found: Survey, dataset: str, schema: str) -> str:
    """The whole file.

    Parameters
    ----------
    found : Survey
        With at least one participant who has both scans, or, without DWI, with at least one phenotype.
    dataset : str
        Name of the study.
    schema : str
        Path of the JSON schema, from the file.
    """
    lines = [EDITOR_LINE.format(schema), *cohort_lines(found, dataset)]
    trained = (split_lines, diffusion_lines, grid_lines, model_lines, task_lines, downstream_lines)
    for part in (without_dwi_lines,) if found.without_dwi else trained:
        lines += part(found)
    return "\n".join(line.rstrip() for line in lines) + "\n"
