"""Biological validation: phenotypes predicted from measured and from synthetic images, on the same folds.

Every participant is predicted by a predictor, and from a synthetic map by a network, that were not
trained on this participant (`m2m.downstream.maps` checks the latter).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from numpy.typing import NDArray

from m2m.cohort.participants import known_participants
from m2m.downstream import analysis, image_tables
from m2m.downstream.inputs import Subjects, combinations, load_participants
from m2m.downstream.phenotype_cnn import read_predictions
from m2m.downstream.prediction import Permuted, permutation_test
from m2m.downstream.targets import RefusedTarget, Target, read_target
from m2m.evaluate.metric_tables import printed
from m2m.io.files import file_digest, read_json, write_json
from m2m.io.tables import write_table
from m2m.options import Downstream
from m2m.options.configured import described_images, measured_of, read_config
from m2m.options.downstream_options import inputs_of
from m2m.options.stage_flags import NeededConfig, Root

COLUMNS = {
    "predictions": (
        "target",
        "input",
        "predictor",
        "participant_id",
        "fold",
        "actual",
        "predicted",
        "error",
        "baseline_error",
    ),
    "scores": (
        "target",
        "kind",
        "input",
        "predictor",
        "metric",
        "value",
        "low",
        "high",
        "fixed_low",
        "fixed_high",
        "chance",
        "chance_low",
        "chance_high",
        "p_permutation",
        "p_holm",
        "n_subjects",
        "n_missing",
        "n_features",
    ),
    "comparison": (
        "target",
        "input",
        "reference_input",
        "predictor",
        "metric",
        "difference",
        "low",
        "high",
        "fixed_low",
        "fixed_high",
        "p",
        "p_holm",
        "n_subjects",
    ),
    "calibration": ("target", "input", "predictor", "bin", "predicted", "actual", "low", "high", "n_subjects"),
    "effects": ("target", "image", "region", "effect", "value", "low", "high", "n_subjects"),
    "recovery": (
        "target",
        "effect",
        "image",
        "reference",
        "n_regions",
        "n_within",
        "n_same_sign",
        "r",
        "mean",
        "mean_reference",
    ),
    "transfer": ("target", "trained_on", "applied_to", "metric", "value", "n_subjects"),
    "agreement": ("target", "measured", "synthetic", "icc", "icc_corrected", "n_subjects"),
    "embedding": ("image", "participant_id", "pc1", "pc2", "share1", "share2"),
}


def permutation_tests(target: Target, subjects: Subjects, options: Downstream) -> dict[str, Permuted]:
    """Run a permutation test of ridge regression for each input.

    Parameters
    ----------
    target : Target
    subjects : Subjects
    options : Downstream

    Returns
    -------
    dict
        Result by input.
    """
    known = subjects.of(target.subjects)
    return {
        name: permutation_test(target.kind, x, target.y, known.folds, options.permutations, options.seed)
        for name, x in combinations(known).items()
    }


def rows_of(
    target: Target,
    subjects: Subjects,
    measured_of: Mapping[str, str],
    volumes: Mapping[str, NDArray],
    options: Downstream,
) -> dict[str, list[image_tables.Row]]:
    """Compute the rows of every table phenotypes one phenotype.

    Parameters
    ----------
    target : Target
    subjects : Subjects
    measured_of : mapping of str to str
        Measured image of each synthetic one.
    volumes : mapping of str to ndarray
        Predictions of networks from volumes, by input; see `m2m.downstream.phenotype_cnn`.
    options : Downstream

    Returns
    -------
    dict
        Rows by table.
    """
    found = analysis.predict_all(target, subjects, volumes, options)
    permuted = permutation_tests(target, subjects, options)
    widths = {name: x.shape[1] for name, x in combinations(subjects).items()}
    wanted = list(analysis.pairs(measured_of))
    effects = list(image_tables.effect_rows(target, subjects))
    return {
        "predictions": list(analysis.prediction_rows(target, found)),
        "scores": list(analysis.score_rows(target, found, permuted, widths, options)),
        "comparison": list(analysis.comparison_rows(target, found, wanted, options)),
        "calibration": list(analysis.calibration_rows(target, found)),
        "effects": effects,
        "recovery": list(image_tables.recovery_rows(effects, measured_of)),
        "transfer": list(analysis.transfer_rows(target, subjects, measured_of, options)),
        "agreement": list(analysis.agreement_rows(target, found, measured_of)),
    }


def main(
    root: Root,
    participants: Annotated[Path, typer.Option(help="participants.tsv")],
    config: NeededConfig,
    cnn: Annotated[
        bool,
        typer.Option("--cnn", help="Include the predictions of networks from volumes, of `m2m predict-phenotype-cnn`."),
    ] = False,
) -> None:
    """Predict phenotypes from each image; compare measured with synthetic maps."""
    written, folder = read_config(config), root / "downstream"
    section = written.section("downstream")
    images = described_images(section, written.task, root, written.simulated)
    tables = [folder / "cnn" / phenotype / f"{name}.tsv" for phenotype in section.targets for name in inputs_of(images)]
    predict_phenotypes(
        folder / "features.tsv",
        participants,
        root / "cohort" / "folds.json",
        folder,
        measured_of(section, written.task),
        section,
        tables if cnn else (),
    )


def predict_phenotypes(
    features: Path,
    participants: Path,
    folds_record: Path,
    out_dir: Path,
    measured: Mapping[str, str],
    chosen: Downstream,
    cnn: Sequence[Path] = (),
) -> None:
    """Predict every phenotype, and write the tables and their record.

    Parameters
    ----------
    features : Path
        features.tsv of `m2m features`.
    participants : Path
        participants.tsv.
    folds_record : Path
        folds.json.
    out_dir : Path
        Folder of the tables.
    measured : mapping of str to str
        Measured image of each synthetic one.
    chosen : Downstream
    cnn : sequence of Path
        Tables of `m2m predict-phenotype-cnn`.
    """
    described = pd.read_csv(features, sep="\t", dtype={"fold": str})
    phenotypes = known_participants(participants, described[["unit", "participant_id"]].to_dict("records"))
    subjects = load_participants(described, phenotypes, chosen.covariates)
    rows: dict[str, list[image_tables.Row]] = {name: [] for name in COLUMNS}
    refused: dict[str, str] = {}
    for name, kind in chosen.targets.items():
        try:
            target = read_target(name, kind, subjects.names, phenotypes, chosen.min_subjects)
        except RefusedTarget as reason:
            refused[name] = str(reason)
            print(f"{name}: not predicted, {reason}")
            continue
        volumes = {p.stem: read_predictions(p, target) for p in cnn if p.parent.name == name}
        own = rows_of(target, subjects, measured, volumes, chosen)
        rows = {table: [*found, *own.get(table, [])] for table, found in rows.items()}
        print(f"{name}: predicted for {len(target.subjects)} participants, {target.n_missing} without a value")
    rows["embedding"] = list(image_tables.embedding_rows(subjects))
    for name, columns in COLUMNS.items():
        write_table(out_dir / f"{name}.tsv", printed(rows[name]), columns)
    write_json(
        out_dir / "downstream.json",
        {
            "options": chosen.model_dump(mode="json"),
            "refused": refused,
            "folds_hash": read_json(folds_record)["hash"],
            "features_hash": file_digest(features),
            "folds": dict(zip(subjects.names, subjects.folds.tolist(), strict=True)),
            "n_subjects": len(subjects.names),
            "n_dropped_features": subjects.n_dropped,
        },
    )
