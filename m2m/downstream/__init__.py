"""Biological validation: phenotypes predicted from measured and from synthetic images, on the same folds.

Every participant is predicted by a predictor, and from a cross-fitted map by a network, that were not
trained on this participant (`m2m.downstream.maps` checks the latter). Of given weights, the record says
what they were trained on, and is passed on to the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from numpy.typing import NDArray

from m2m.cohort.participants import known_participants
from m2m.cohort.quality import count_flow, outcome_of_t1
from m2m.downstream import analysis, image_tables, site_tables
from m2m.downstream.inputs import Subjects, combinations, load_participants
from m2m.downstream.permutation import Permuted, permutation_test
from m2m.downstream.phenotype_cnn import read_predictions
from m2m.downstream.prediction import LINEAR
from m2m.downstream.targets import RefusedTarget, Target, read_target
from m2m.evaluate.metric_tables import printed
from m2m.io.files import file_digest, read_json, write_json
from m2m.io.tables import read_table, write_table
from m2m.models.given_weights import Given, given_in, targets_of
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
    "sites": (
        "target",
        "input",
        "harmonise",
        "site",
        "metric",
        "value",
        "low",
        "high",
        "fixed_low",
        "fixed_high",
        "n_subjects",
    ),
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
        name: permutation_test(
            target.kind,
            x,
            target.y,
            known.folds,
            options.permutations,
            options.seed,
            known.harmoniser(name, target.name),
        )
        for name, x in combinations(known).items()
    }


def rows_of(
    target: Target,
    subjects: Subjects,
    measured_of: Mapping[str, str | None],
    volumes: Mapping[str, NDArray],
    options: Downstream,
) -> dict[str, list[image_tables.Row]]:
    """Compute the rows of every table phenotypes one phenotype.

    Parameters
    ----------
    target : Target
    subjects : Subjects
    measured_of : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.
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
    found_by: dict[str, analysis.Found] = {options.harmonise: found}
    if options.harmonise != "none":
        as_they_are = replace(subjects, preserved=None)
        found_by = {"none": analysis.predict_all(target, as_they_are, {}, options, (LINEAR,)), **found_by}
    return {
        "predictions": list(analysis.prediction_rows(target, found)),
        "scores": list(analysis.score_rows(target, found, permuted, widths, options)),
        "comparison": list(analysis.comparison_rows(target, found, wanted, options)),
        "calibration": list(analysis.calibration_rows(target, found)),
        "effects": effects,
        "recovery": list(image_tables.recovery_rows(effects, measured_of)),
        "transfer": list(analysis.transfer_rows(target, subjects, measured_of, options)),
        "agreement": list(analysis.agreement_rows(target, found, measured_of)),
        "sites": list(site_tables.site_rows(target, subjects, found_by, options)),
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
    given = given_in(written)
    targets = targets_of(given)
    images = described_images(section, written.task, root, written.simulated, targets)
    tables = [folder / "cnn" / phenotype / f"{name}.tsv" for phenotype in section.targets for name in inputs_of(images)]
    predict_phenotypes(
        folder / "features.tsv",
        participants,
        root / "cohort" / "folds.json",
        folder,
        measured_of(section, written.task, targets),
        section,
        tables if cnn else (),
        given,
        flow_of_t1(root) if section.without_dwi else None,
    )


def flow_of_t1(root: Path) -> dict[str, Any]:
    """Count units as `count_flow`, where a T1 is all that is needed of a participant."""
    outcomes = (outcome_of_t1(unit, root) for unit in read_table(root / "cohort" / "units.tsv"))
    return count_flow({"state": state, "stage": stage, "reason": reason} for state, stage, reason in outcomes)


def about_given(given: Given, subjects: Sequence[str]) -> dict[str, Any]:
    """Select what readers must know of given weights.

    Parameters
    ----------
    given : Given
    subjects : sequence of str
        Participants that are predicted.

    Returns
    -------
    dict
        Entries of the record, and ``trained_on``: participants of the same name among those of its training.
    """
    record = given.record
    trained = {*record.get("train_participants", ()), *record.get("validation_participants", ())}
    kept = {key: record[key] for key in ("model", "family", "target", "n_train", "simulated", "weights")}
    return kept | {"trained_on": sorted(trained & set(subjects))}


def predict_phenotypes(
    features: Path,
    participants: Path,
    folds_record: Path,
    out_dir: Path,
    measured: Mapping[str, str | None],
    chosen: Downstream,
    cnn: Sequence[Path] = (),
    given: Mapping[str, Given] | None = None,
    flow: Mapping[str, Any] | None = None,
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
    measured : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.
    chosen : Downstream
    cnn : sequence of Path
        Tables of `m2m predict-phenotype-cnn`.
    given : mapping of str to Given, optional
        Given weights, by the name of their maps.
    flow : mapping, optional
        Counts of the cohort, where they are not those of quality.tsv.
    """
    described = pd.read_csv(features, sep="\t", dtype={"fold": str})
    phenotypes = known_participants(participants, described[["unit", "participant_id"]].to_dict("records"))
    harmonised = chosen.harmonise != "none"
    subjects = load_participants(described, phenotypes, chosen.covariates, chosen.preserve if harmonised else None)
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
    if harmonised:
        features_of = printed(site_tables.harmonised_rows(subjects))
        write_table(out_dir / "harmonised.tsv", features_of, tuple(features_of[0]))
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
            "given": {name: about_given(one, subjects.names) for name, one in (given or {}).items()},
            "flow": flow,
            **({"harmonised": site_tables.harmonisation_record(subjects)} if harmonised else {}),
        },
    )
