"""A small results tree as the earlier stages leave it: three models of known quality."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from scipy import ndimage

from m2m.bids import unit_path
from m2m.evaluate import compare
from m2m.evaluate import main as evaluate
from m2m.options import Evaluation, Rois
from m2m.stage import digest, read_table, write_json, write_table, write_text

TASK, MODELS = "t1-fa", ("macro2micro", "mean", "t1")
SHAPE, SPACING_MM = (28, 34, 26), 6.0
BUNDLES = {1: "genu", 2: "splenium", 3: "left CST", 4: "right CST", 5: "left SLF", 6: "right SLF"}
PARTS = {
    f"sub-{i:02d}": part for i, part in enumerate(["train"] * 5 + ["validation"] + ["test"] * 6)
}
AFFINE = np.diag([SPACING_MM] * 3 + [1.0])


def grid():
    """Distance from the grid's centre in half axes of the brain, shape (X, Y, Z)."""
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
    fa = 0.45 * np.exp(-(((radius - 0.45) / 0.25) ** 2)) + 0.4 * np.exp(
        -((x / 0.15) ** 2) - 6 * z**2
    )
    return np.where(radius < 1, np.clip(fa + 0.08, 0, 0.95), 0), radius


def bundles():
    fa, radius = common_fa()
    x, y, _ = grid()
    wm = (fa > 0.3) & (radius < 0.9)
    octant = 1 + (y > 0) + 2 * (x > 0.1) + 2 * (x > -0.1)
    return np.where(wm, np.minimum(octant, len(BUNDLES)), 0)


def person(root, unit, index):
    """Write the grid's images of one person; return true FA, T1 and the brain."""
    rng = np.random.default_rng(index)
    mean, radius = common_fa()
    brain = radius < 1
    fa = np.where(brain, np.clip(mean * (1 + 0.12 * rng.normal()) + 0.06 * smooth(rng), 0.01, 1), 0)
    t1 = np.where(brain, 300 + 500 * fa + 20 * smooth(rng, 1.0), 0)
    for kind, data in {"fa": fa, "t1w": t1}.items():
        save(unit_path(root, kind, unit, unit), data)
    for kind, data in {"brain": brain, "target-mask": brain, "wm": (bundles() > 0)}.items():
        save(unit_path(root, kind, unit, unit), data, np.uint8)
    save(unit_path(root / "truth", "truth-bundles", unit, unit), bundles(), np.int16)
    picture = Path(unit_path(root, "picture", unit, unit))
    picture.parent.mkdir(parents=True, exist_ok=True)
    tile = np.kron((fa[:, :, 13] * 255).astype(np.uint8), np.ones((8, 8), np.uint8))
    Image.fromarray(np.concatenate([tile] * 4, axis=1)).save(picture)
    for stage in ("anat", "grid"):
        write_json(
            unit_path(root, f"{stage}-status", unit, unit),
            {"unit": unit, "stage": stage, "status": "ok", "excluded": [],
             "grid_to_mni": np.eye(4).tolist(), "fa_mean": round(float(fa[brain].mean()), 4)},
        )  # fmt: skip
    return fa, t1, brain


def translations(fa, t1, brain, index):
    rng = np.random.default_rng(1000 + index)
    mean, _ = common_fa()
    return {
        "macro2micro": np.where(brain, np.clip(fa + 0.02 * smooth(rng, 1.5), 0, 1), 0),
        "mean": np.where(brain, mean, 0),
        "t1": np.where(brain, t1 / 900, 0),
    }


def build(root, parts=PARTS):
    """Write cohort tables, volumes, models and synthetic maps below `root`."""
    root, units = Path(root), list(parts)
    columns = ("unit", "folder", "participant_id", "t1w", "dwi", "state", "reason")
    rows = [
        {"unit": u, "folder": u, "participant_id": u, "state": "paired", "t1w": "a", "dwi": "b"}
        for u in units
    ]
    rows.append({"unit": "sub-12", "folder": "sub-12", "participant_id": "sub-12",
                 "state": "t1w-only", "reason": "no DWI"})  # fmt: skip
    write_table(root / "cohort/units.tsv", rows, columns)
    rng = np.random.default_rng(0)
    split = [
        {"participant_id": u, "part": part, "age": int(rng.integers(20, 80)), "sex": "FM"[i % 2]}
        for i, (u, part) in enumerate(parts.items())
    ]
    table = root / "cohort/split.tsv"
    write_table(table, split, ("participant_id", "part", "age", "sex"))
    hash_ = digest(read_table(table))
    write_json(root / "cohort/split.json", {"hash": hash_})
    quality = [
        {"unit": u, "participant_id": u, "part": part, "state": "used", "stage": None,
         "reason": None, "grid_fa_mean": 0.2, "grid_coverage": 0.97, "grid_kept": "registration"}
        for u, part in parts.items()
    ]  # fmt: skip
    quality.append(
        {"unit": "sub-12", "participant_id": "sub-12", "state": "incomplete",
         "stage": "validate", "reason": "no DWI"}
    )  # fmt: skip
    write_table(root / "cohort/quality.tsv", quality, list(quality[0]))
    n = len(units)
    flow = {"n_input": n + 1, "n_failed": 0, "n_excluded": 0, "n_incomplete": 1, "n_used": n}
    write_json(root / "cohort/flow.json", flow)
    write_table(
        root / "cohort/cohort_status.tsv",
        [{"unit": "sub-12", "stage": "validate", "severity": "error", "problem": "has no DWI",
          "file": "rawdata/sub-12", "value": "none", "remedy": "<add> the series & run again"}],
        ("unit", "stage", "severity", "problem", "file", "value", "remedy"),
    )  # fmt: skip
    for index, (unit, part) in enumerate(parts.items()):
        images = person(root, unit, index)
        if part == "test":
            for model, data in translations(*images, index).items():
                path = unit_path(root / "synthetic" / TASK / model, "synth-fa", unit, unit)
                save(path, data)
    for model in MODELS:
        write_model(root, model, parts, hash_)
    write_table(
        root / "truth/desc-bundles_dseg.tsv",
        [{"index": i, "name": name} for i, name in BUNDLES.items()], ("index", "name"),
    )  # fmt: skip
    return root


def write_model(root, model, parts, split_hash):
    folder = root / "models" / TASK / model
    record = {
        "task": TASK, "model": model, "family": model, "split_hash": split_hash,
        "train_participants": [u for u, p in parts.items() if p == "train"],
        "validation_participants": [u for u, p in parts.items() if p == "validation"],
        "n_train": 5, "n_validation": 1, "parameters": 1234 if model == "macro2micro" else 0,
        "best_step": 200, "validation": {"metric": "brain_mae", "value": 0.0312, "n_subjects": 1},
        "code_version": "0.1.0", "fingerprint": "abc",
    }  # fmt: skip
    write_json(folder / "model.json", record)
    write_text(folder / "metrics.jsonl", curves() if model == "macro2micro" else BASELINE)


BASELINE = '{"step": null, "split": "validation", "brain_mae": 0.05}\n'


def curves():
    """Training records of a network that gets better, one JSON object a line."""
    lines = []
    for step in range(10, 210, 10):
        decay = 2.0 ** (-step / 60)
        terms = {"image": 0.2 * decay, "low": 0.1 * decay, "grad_norm/generator": 1 + decay}
        lines.append({"step": step, "split": "train", "seconds": step / 3} | terms)
        if step % 50 == 0:
            lines.append({"step": step, "split": "validation", "brain_mae": 0.03 + decay / 9})
    return "".join(json.dumps(line) + "\n" for line in lines)


def evaluation_options(root):
    image = unit_path(root / "truth", "truth-bundles")
    rois = Rois(image=image, labels=root / "truth/desc-bundles_dseg.tsv")
    return Evaluation(rois=rois, bootstrap=200).model_dump_json()


def run_evaluation(root, models=MODELS, options=None):
    """Run evaluate for each model, then compare."""
    options = options or evaluation_options(root)
    cohort = root / "cohort"
    for model in models:
        folder = root / "evaluation" / TASK / model
        evaluate(
            TASK, model, root, cohort / "units.tsv", cohort / "split.tsv", cohort / "split.json",
            cohort / "quality.tsv", root / "models" / TASK / model / "model.json",
            folder / "metrics.tsv", folder / "profile.tsv", folder / "rois.tsv", options,
        )  # fmt: skip
    return run_compare(root, models, options)


def run_compare(root, models=MODELS, options=None):
    options = options or evaluation_options(root)
    evaluation = root / "evaluation" / TASK
    compare(
        TASK, root, list(models), root / "cohort/flow.json", evaluation / "summary.tsv",
        evaluation / "comparison.tsv", options,
    )  # fmt: skip
    return root
