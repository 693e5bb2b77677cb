"""A small results tree as the earlier stages leave it: models of known quality, several tasks."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from PIL import Image
from scipy import ndimage

from m2m.diffusion.density import save_tractogram
from m2m.diffusion.tensors import from_matrix
from m2m.evaluate.comparison import compare_models
from m2m.evaluate.metric_tables import TABLES
from m2m.evaluate.subjects import evaluate_model
from m2m.figures.figure_records import paths_of_page
from m2m.io.bids import unit_path
from m2m.io.files import digest, write_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table, write_table
from m2m.options import Evaluation, Report, Rois, Task, load_config
from m2m.report.page import write_page as report

TASK, MODELS = "t1-fa", ("macro2micro", "mean", "t1")
TASKS = {
    TASK: Task(models=MODELS),
    "fa-tdi": Task(source="fa", target="tdi", models=MODELS[:2]),
    "t1-fa-tdi": Task(target="tdi", cascade=(TASK, "fa-tdi"), models=MODELS[:2]),
    "t1-dti": Task(target="dti", models=MODELS[:2]),
}
# Error of each model's tensors: a rotation about z, and another mean diffusivity.
TURN_DEG, MD_MM2_PER_S = {"measured": 0, "macro2micro": 10, "mean": 30, "t1": 0}, 0.8e-3
MD_ERROR_MM2_PER_S = {"measured": 0, "macro2micro": 2e-5, "mean": 1e-4, "t1": 0}
# Standard deviation of macro2micro's error.
FA_ERROR = 0.02
NO_DWI = "no DWI in the dataset"
# The bundle that is missing in the mean map's tractogram.
LACKING = 1
SHAPE, SPACING_MM = (28, 34, 26), 6.0
BUNDLES = {1: "genu", 2: "splenium", 3: "left CST", 4: "right CST", 5: "left SLF", 6: "right SLF"}
PARTS = {f"sub-{i:02d}": part for i, part in enumerate(["train"] * 5 + ["validation"] + ["test"] * 6)}
AFFINE = np.diag([SPACING_MM] * 3 + [1.0])


def grid():
    """Coordinates relative to the grid's centre in half axes of the brain, each of shape (X, Y, Z)."""
    axes = [(np.arange(n) - (n - 1) / 2) / (0.42 * n) for n in SHAPE]
    return np.meshgrid(*axes, indexing="ij")


def smooth(rng, sigma=2.5):
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), sigma)
    return field / field.std()


def save(path, data, dtype=np.float32):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(data, dtype), AFFINE), path)


def load(path):
    return np.asarray(nib.load(path).dataobj)


def common_fa():
    x, y, z = grid()
    radius = np.sqrt(x**2 + y**2 + z**2)
    fa = 0.45 * np.exp(-(((radius - 0.45) / 0.25) ** 2)) + 0.4 * np.exp(-((x / 0.15) ** 2) - 6 * z**2)
    return np.where(radius < 1, np.clip(fa + 0.08, 0, 0.95), 0), radius


def bundles():
    fa, radius = common_fa()
    x, y, _ = grid()
    wm = (fa > 0.3) & (radius < 0.9)
    octant = 1 + (y > 0) + 2 * (x > 0.1) + 2 * (x > -0.1)
    return np.where(wm, np.minimum(octant, len(BUNDLES)), 0)


def density(fa):
    """Tract density that increases with FA."""
    return 60 * np.clip(fa - 0.2, 0, None)


def diffusivity(fa):
    """Mean diffusivity in mm2/s that decreases with FA; 0 where FA is 0."""
    return np.where(fa > 0, 1.5e-3 - 1e-3 * fa, 0)


def tensor(fa, kind="measured"):
    """Tensors with this FA whose principal directions circle the z axis, shape (X, Y, Z, 6)."""
    x, y, _ = grid()
    angle = np.arctan2(y, x) + np.pi / 2 + np.radians(TURN_DEG[kind])
    v1 = np.stack([np.cos(angle), np.sin(angle), np.zeros(SHAPE)], axis=-1)
    a = (fa / np.sqrt(3 - 2 * fa**2))[..., None, None]
    shape = (1 - a) * np.eye(3) + 3 * a * v1[..., :, None] * v1[..., None, :]
    six = (MD_MM2_PER_S + MD_ERROR_MM2_PER_S[kind]) * from_matrix(shape)
    return np.where((common_fa()[1] < 1)[..., None], six, 0)


def length_mm(label):
    """Length of every streamline of a bundle."""
    return 4 + 0.4 * label


def streamlines(kind, index):
    """Short streamlines in each bundle, denser in its centre, in T1 world mm.

    Those of macro2micro are shifted by 0.5 mm; those of mean are the same for every subject.
    """
    rng = np.random.default_rng(500 + (0 if kind == "mean" else index))
    shift = np.array([0.5, 0, 0]) if kind == "macro2micro" else 0
    lines = []
    for label in BUNDLES:
        voxels = np.argwhere(bundles() == label)
        weight = np.exp(-((voxels - voxels.mean(0)) ** 2).sum(1) / 18)
        starts = rng.choice(voxels, 150, p=weight / weight.sum())
        steps = np.linspace(-0.5, 0.5, 5)[:, None] * np.array([0, length_mm(label), 0])
        if kind != "mean" or label != LACKING:
            lines += [apply_affine(AFFINE, start) + steps + shift for start in starts]
    return nib.streamlines.ArraySequence([line.astype(np.float32) for line in lines])


def t1_to_dwi():
    """Rotation of 20 degrees about x and a translation, T1 world mm to DWI world mm."""
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    return np.array([[1, 0, 0, 5.0], [0, c, -s, -3], [0, s, c, 8], [0, 0, 0, 1]])


def subject(root, unit, index):
    """Write the images of one subject on the grid; return measured FA, T1 and brain mask."""
    rng = np.random.default_rng(index)
    mean, radius = common_fa()
    brain = radius < 1
    fa = np.where(brain, np.clip(mean * (1 + 0.12 * rng.normal()) + 0.06 * smooth(rng), 0.01, 1), 0)
    t1 = np.where(brain, 300 + 500 * fa + 20 * smooth(rng, 1.0), 0)
    maps = {"fa": fa, "t1w": t1, "tdi": density(fa), "tensor": tensor(fa), "md": diffusivity(fa)}
    for kind, data in maps.items():
        save(unit_path(root, kind, unit, unit), data)
    for kind, data in {"brain": brain, "target-mask": brain, "wm": (bundles() > 0)}.items():
        save(unit_path(root, kind, unit, unit), data, np.uint8)
    in_dwi = streamlines("measured", index)
    in_dwi._data = apply_affine(t1_to_dwi(), in_dwi._data).astype(np.float32)
    save_tractogram(unit_path(root, "tractogram", unit, unit), in_dwi)
    save(unit_path(root / "truth", "truth-bundles", unit, unit), bundles(), np.int16)
    figure = Path(unit_path(root, "qc", unit, unit))
    figure.parent.mkdir(parents=True, exist_ok=True)
    tile = np.kron((fa[:, :, 13] * 255).astype(np.uint8), np.ones((8, 8), np.uint8))
    Image.fromarray(np.concatenate([tile] * 4, axis=1)).save(figure)
    for stage in ("anat", "grid"):
        write_json(
            unit_path(root, f"{stage}-status", unit, unit),
            {
                "unit": unit,
                "stage": stage,
                "status": "ok",
                "excluded": [],
                "t1_to_dwi": t1_to_dwi().tolist(),
                "grid_to_mni": np.eye(4).tolist(),
                "fa_mean": round(float(fa[brain].mean()), 4),
            },
        )
    return fa, t1, brain


def translations(fa, t1, brain, index):
    rng = np.random.default_rng(1000 + index)
    mean, _ = common_fa()
    return {
        "macro2micro": np.where(brain, np.clip(fa + FA_ERROR * smooth(rng, 1.5), 0, 1), 0),
        "mean": np.where(brain, mean, 0),
        "t1": np.where(brain, t1 / 900, 0),
    }


def standard_deviation(model, error, brain):
    """Macro2micro: standard deviation of its error, everywhere; mean: its absolute error; t1: none."""
    inside = brain if error.ndim == 3 else brain[..., None]
    sizes = {"macro2micro": np.full_like(error, FA_ERROR), "mean": np.abs(error)}
    return np.where(inside, sizes[model], 0)


def synthesise(root, unit, index, images, tasks):
    """Write the synthetic maps and streamlines of one subject for every task and model."""
    for model, fa in translations(*images, index).items():
        for task, section in tasks.items():
            if model not in section.models:
                continue
            folder = root / "synthetic" / task / model
            values = {"fa": fa, "tdi": density(fa), "dti": tensor(fa, model), "md": diffusivity(fa)}[section.target]
            modality = MODALITIES[section.target]
            save(unit_path(folder, modality.synthetic, unit, unit), values)
            if model != "t1":
                measured = load(unit_path(root, modality.kind, unit, unit))
                error = modality.scale(measured) - modality.scale(values)
                sd = standard_deviation(model, error, images[2])
                save(unit_path(folder, f"synthsd-{modality.kind}", unit, unit), sd)
            if section.target == "dti":
                path = unit_path(folder, "synth-tractogram", unit, unit)
                save_tractogram(path, streamlines(model, index))


def build(root, parts=PARTS, tasks=(TASK,)):
    """Write cohort tables, volumes, models and synthetic maps below `root`."""
    root, units = Path(root), list(parts)
    chosen = {task: TASKS[task] for task in tasks}
    columns = ("unit", "folder", "participant_id", "t1w", "dwi", "state", "reason")
    rows = [{"unit": u, "folder": u, "participant_id": u, "state": "paired", "t1w": "a", "dwi": "b"} for u in units]
    rows.append(
        {"unit": "sub-12", "folder": "sub-12", "participant_id": "sub-12", "state": "t1w-only", "reason": "no DWI"}
    )
    write_table(root / "cohort/units.tsv", rows, columns)
    rng = np.random.default_rng(0)
    split = [
        {"participant_id": u, "part": part, "age": int(rng.integers(20, 80)), "sex": "FM"[i % 2]}
        for i, (u, part) in enumerate(parts.items())
    ]
    table = root / "cohort/split.tsv"
    write_table(table, split, ("participant_id", "part", "age", "sex"))
    hash_ = digest(read_table(table))
    counts = {part: list(parts.values()).count(part) for part in ("train", "validation", "test")}
    write_json(
        root / "cohort/split.json",
        {"hash": hash_, "seed": 7, "counts": counts, "shaped_by": ["age", "sex"]},
    )
    quality = [
        {
            "unit": u,
            "participant_id": u,
            "part": part,
            "state": "used",
            "stage": None,
            "reason": None,
            "grid_fa_mean": 0.2,
            "grid_coverage": 0.97,
            "grid_kept": "registration",
            "anat_brain_mask": "template and intensity",
        }
        for u, part in parts.items()
    ]
    quality.append(
        {"unit": "sub-12", "participant_id": "sub-12", "state": "incomplete", "stage": "validate", "reason": NO_DWI}
    )
    write_table(root / "cohort/quality.tsv", quality, list(quality[0]))
    n = len(units)
    flow = {"n_input": n + 1, "n_failed": 0, "n_excluded": 0, "n_incomplete": 1, "n_used": n}
    write_json(root / "cohort/flow.json", flow)
    write_table(
        root / "cohort/cohort_status.tsv",
        [
            {
                "unit": "sub-12",
                "stage": "validate",
                "severity": "error",
                "problem": NO_DWI,
                "file": "rawdata/sub-12",
                "value": "none",
                "remedy": "<add> the series & run again",
            }
        ],
        ("unit", "stage", "severity", "problem", "file", "value", "remedy"),
    )
    for index, (unit, part) in enumerate(parts.items()):
        images = subject(root, unit, index)
        if part == "test":
            synthesise(root, unit, index, images, chosen)
    for task, section in chosen.items():
        for model in section.models if section.cascade is None else ():
            write_model(root, task, model, parts, hash_)
    write_table(
        root / "truth/desc-bundles_dseg.tsv",
        [{"index": i, "name": name} for i, name in BUNDLES.items()],
        ("index", "name"),
    )
    return root


def write_model(root, task, model, parts, split_hash):
    folder = root / "models" / task / model
    record = {
        "task": task,
        "model": model,
        "family": model,
        "options": {},
        "split_hash": split_hash,
        "train_participants": [u for u, p in parts.items() if p == "train"],
        "validation_participants": [u for u, p in parts.items() if p == "validation"],
        "n_train": 5,
        "n_validation": 1,
        "parameters": 1234 if model == "macro2micro" else 0,
        "best_step": 200,
        "validation": {"metric": "brain_mae", "value": 0.0312, "n_subjects": 1},
        "code_version": "0.1.0",
        "fingerprint": "abc",
    }
    write_json(folder / "model.json", record)
    write_text(folder / "metrics.jsonl", curves() if model == "macro2micro" else BASELINE)


BASELINE = '{"step": null, "split": "validation", "brain_mae": 0.05}\n'


def curves():
    """Training records of a network whose losses decrease, one JSON object per line."""
    lines = []
    for step in range(10, 210, 10):
        decay = 2.0 ** (-step / 60)
        terms = {"l1": 0.2 * decay, "l1_low_frequency": 0.1 * decay, "grad_norm/generator": 1 + decay}
        lines.append({"step": step, "split": "train", "seconds": step / 3} | terms)
        if step % 50 == 0:
            lines.append({"step": step, "split": "validation", "brain_mae": 0.03 + decay / 9})
    return "".join(json.dumps(line) + "\n" for line in lines)


def evaluation_options(root):
    image = unit_path(root / "truth", "truth-bundles")
    rois = Rois(image=image, labels=root / "truth/desc-bundles_dseg.tsv")
    return Evaluation(rois=rois)


def run_evaluation(root, models=None, options=None, task=TASK):
    """Run evaluate for each model of a task, then compare."""
    section = TASKS[task]
    models = models or section.models
    options = options or evaluation_options(root)
    cohort = root / "cohort"
    for model in models:
        folder = root / "evaluate" / task / model
        tables = [folder / f"{name}.tsv" for name in TABLES]
        evaluate_model(
            task,
            model,
            section.target,
            root,
            cohort / "units.tsv",
            cohort / "split.tsv",
            cohort / "split.json",
            cohort / "quality.tsv",
            [root / "models" / step / model / "model.json" for step in section.cascade or [task]],
            *tables,
            options,
            mean_model="mean",
            streamlines=section.target == "dti",
        )
    return run_compare(root, models, task)


def run_compare(root, models=MODELS, task=TASK):
    evaluation = root / "evaluate" / task
    compare_models(
        task,
        root,
        list(models),
        root / "cohort/flow.json",
        evaluation / "summary.tsv",
        evaluation / "comparison.tsv",
    )
    return root


def study(root, parts=PARTS):
    """Build and evaluate every task of `TASKS`."""
    build(root, parts, TASKS)
    for task in TASKS:
        run_evaluation(root, task=task)
    return root


def some_tasks(*names):
    """Sections of tasks by name; all where no name is given."""
    return {name: TASKS[name] for name in names or TASKS}


def write_page(root, simulated=True, title="A <study> & more", limit=60, tasks=TASKS, published=None):
    """Write the page of a study with a grey ramp as every figure; return its text."""
    names = paths_of_page({task: TASKS[task].target for task in tasks}, uses_low_res=False)
    for name in names:
        path = root / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.linear_gradient("L").save(path)
    report(
        root,
        some_tasks(*tasks),
        root / "figures",
        simulated,
        load_config("config.yaml").model_dump_json(),
        root / "report.html",
        Report(title=title, max_subject_pages=limit),
        evaluation_options(root).rois,
        published,
    )
    return (root / "report.html").read_text(encoding="utf-8")
