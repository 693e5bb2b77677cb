"""Do synthetic maps carry the person? Phenotypes predicted from each image, on the same folds.

Every prediction is of somebody whom neither the predictor nor the network behind the synthetic map
has seen (`m2m.downstream.maps` checks the latter).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from numpy.typing import NDArray

from m2m.cohort.participants import known_people
from m2m.downstream import analysis
from m2m.downstream.cnn import read_predictions
from m2m.downstream.inputs import People, combinations, load_people
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
    "predictions": ("target", "input", "predictor", "participant_id", "fold", "true", "predicted",
                    "error", "usual_error"),
    "scores": ("target", "kind", "input", "predictor", "metric", "value", "low", "high",
               "fixed_low", "fixed_high", "chance", "chance_low", "chance_high", "p_permutation",
               "p_holm", "n_people", "n_missing", "n_features"),
    "comparison": ("target", "input", "than", "predictor", "metric", "difference", "low", "high",
                   "fixed_low", "fixed_high", "p", "p_holm", "n_people"),
    "calibration": ("target", "input", "predictor", "bin", "said", "true", "n_people"),
    "effects": ("target", "image", "region", "effect", "value", "low", "high", "n_people"),
    "recovery": ("target", "effect", "image", "reference", "n_regions", "n_within", "n_same_sign",
                 "r", "mean", "mean_reference"),
    "transfer": ("target", "learnt_from", "applied_to", "metric", "value", "n_people"),
    "agreement": ("target", "measured", "synthetic", "icc", "icc_corrected", "n_people"),
    "embedding": ("image", "participant_id", "pc1", "pc2", "share1", "share2"),
}  # fmt: skip


def permutation_tests(target: Target, people: People, options: Downstream) -> dict[str, Permuted]:
    """What chance makes of each input, by ridge regression."""
    known = people.of(target.people)
    return {
        seen: permutation_test(
            target.kind, x, target.y, known.folds, options.permutations, options.seed
        )
        for seen, x in combinations(known).items()
    }  # fmt: skip


def rows_of(
    target: Target,
    people: People,
    measured_of: Mapping[str, str],
    volumes: Mapping[str, NDArray],
    options: Downstream,
) -> dict[str, list[analysis.Row]]:
    """Rows of every table about one phenotype."""
    found = analysis.predict_all(target, people, volumes, options)
    permuted = permutation_tests(target, people, options)
    widths = {seen: x.shape[1] for seen, x in combinations(people).items()}
    wanted = list(analysis.pairs(measured_of))
    effects = list(analysis.effect_rows(target, people))
    return {
        "predictions": list(analysis.prediction_rows(target, found)),
        "scores": list(analysis.score_rows(target, found, permuted, widths, options)),
        "comparison": list(analysis.comparison_rows(target, found, wanted, options)),
        "calibration": list(analysis.calibration_rows(target, found)),
        "effects": effects,
        "recovery": list(analysis.recovery_rows(effects, measured_of)),
        "transfer": list(analysis.transfer_rows(target, people, measured_of, options)),
        "agreement": list(analysis.agreement_rows(target, found, measured_of)),
    }


def main(
    root: Root,
    participants: Annotated[Path, typer.Option(help="participants.tsv")],
    config: NeededConfig,
    cnn: Annotated[
        bool, typer.Option("--cnn", help="With what networks of volumes say, of `m2m cnn`.")
    ] = False,
) -> None:
    """Predict phenotypes from each image; compare what measured and synthetic maps show."""
    written, folder = read_config(config), root / "downstream"
    section = written.section("downstream")
    images = described_images(section, written.task, root, written.simulated)
    tables = [
        folder / "cnn" / phenotype / f"{name}.tsv"
        for phenotype in section.targets
        for name in inputs_of(images)
    ]
    predict_phenotypes(
        folder / "features.tsv", participants, root / "cohort" / "folds.json", folder,
        measured_of(section, written.task), section, tables if cnn else (),
    )  # fmt: skip


def predict_phenotypes(
    features: Path,
    participants: Path,
    folds_record: Path,
    out_dir: Path,
    measured: Mapping[str, str],
    chosen: Downstream,
    cnn: Sequence[Path] = (),
) -> None:
    """Predict every phenotype, and write the tables and their record."""
    about = known_people(participants)
    described = pd.read_csv(features, sep="\t", dtype={"fold": str})
    people = load_people(described, about, chosen.covariates)
    rows: dict[str, list[analysis.Row]] = {name: [] for name in COLUMNS}
    refused: dict[str, str] = {}
    for name, kind in chosen.targets.items():
        try:
            target = read_target(name, kind, people.names, about, chosen.min_people)
        except RefusedTarget as reason:
            refused[name] = str(reason)
            print(f"{name}: not predicted, {reason}")
            continue
        volumes = {p.stem: read_predictions(p, target) for p in cnn if p.parent.name == name}
        own = rows_of(target, people, measured, volumes, chosen)
        rows = {table: [*found, *own.get(table, [])] for table, found in rows.items()}
        print(f"{name}: predicted of {len(target.people)} people, {target.n_missing} without it")
    rows["embedding"] = list(analysis.embedding_rows(people))
    for name, columns in COLUMNS.items():
        write_table(out_dir / f"{name}.tsv", printed(rows[name]), columns)
    write_json(
        out_dir / "downstream.json",
        {
            "options": chosen.model_dump(mode="json"),
            "refused": refused,
            "folds_hash": read_json(folds_record)["hash"],
            "features_hash": file_digest(features),
            "folds": dict(zip(people.names, people.folds.tolist(), strict=True)),
            "n_people": len(people.names),
            "n_dropped_features": people.n_dropped,
        },
    )
