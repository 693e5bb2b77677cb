"""Biological validation on simulated maps: effects are found where they were simulated, and only there."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_report import Page

from m2m.downstream import COLUMNS, analysis, predict_phenotypes
from m2m.downstream.features import describe_participants
from m2m.downstream.inputs import load_participants
from m2m.downstream.maps import Source, require_unseen
from m2m.downstream.phenotype_cnn import load_volumes, predict, predict_phenotype, read_predictions
from m2m.downstream.targets import read_target
from m2m.figures import style
from m2m.figures.downstream_figures import draw_validation
from m2m.figures.figure_records import of_validation
from m2m.io.bids import unit_path
from m2m.io.errors import DataError
from m2m.io.files import digest, read_json, write_json
from m2m.io.tables import read_table, write_table
from m2m.io.volume import Volume, save
from m2m.options import Cnn, Downstream, Evaluation, Report, Rois, Slices, Training, load_config
from m2m.options.downstream_options import NOISE_FREE, inputs_of
from m2m.report.downstream_page import sentences, write_page
from m2m.train.launch import make_fabric

N, FOLDS, SHAPE = 40, 4, (12, 14, 12)
REGIONS = {1: "front", 2: "back"}
SYNTHETIC = "t1-fa.mine"
MEASURED_OF = {SYNTHETIC: "fa"}
OPTIONS = Downstream(
    targets={"age": "regression", "sex": "classification", "height": "regression"},
    tasks=("t1-fa",),
    folds=FOLDS,
    min_subjects=5,
    permutations=399,
    bootstrap=100,
    cnn=Cnn(widths=(4, 8), steps=120, batch_size=8, learning_rate=2e-2, dropout=0.0),
)


def subjects():
    """Labels, ages and sexes, in random order."""
    rng = np.random.default_rng(5)
    names = [f"sub-{i:02d}" for i in range(1, N + 1)]
    return names, rng.uniform(20, 80, N).round(1), rng.permutation(["F", "M"] * (N // 2))


def tree(root):
    """Write maps of participants in which age changes FA in front only, and sex changes the T1.

    The synthetic map copies the T1, so it depends on sex and not on age.
    """
    names, ages, sexes = subjects()
    folds = [str(1 + i % FOLDS) for i in range(N)]
    labels = np.zeros(SHAPE, int)
    labels[2:10, 7:12, 2:10], labels[2:10, 2:7, 2:10] = 1, 2
    rng = np.random.default_rng(6)
    for name, age, sex, fold in zip(names, ages, sexes, folds, strict=True):
        noise = rng.normal(0, 0.01, (2, *SHAPE))
        base = np.where(labels > 0, 0.4, 0.1)
        fa = base - 0.002 * (age - 50) * (labels == 1) + noise[0]
        t1 = 100 * (base + 0.05 * (sex == "M") * (labels == 2) + noise[1])
        t1[6, 6, 6], t1[6, 7, 6] = 0, 200  # the same range for every participant
        maps = {"t1w": t1, "brain": labels > 0, "target-mask": labels > 0, "fa": fa}
        for kind, data in maps.items():
            save(unit_path(root, kind, name, name), Volume(data.astype(np.float32), np.eye(4)))
        of_fold = root / "synthetic" / f"t1-fa-fold{fold}" / "mine"
        save(
            unit_path(of_fold, "synth-fa", name, name),
            Volume((t1 / 200).astype(np.float32), np.eye(4)),
        )
    save(root / "labels.nii.gz", Volume(labels.astype(np.float32), np.eye(4)), dtype=np.int16)
    write_table(
        root / "labels.tsv",
        [{"index": i, "name": n} for i, n in REGIONS.items()],
        ("index", "name"),
    )
    cohort = root / "cohort"
    units = [{"participant_id": p, "unit": p, "folder": p, "state": "paired"} for p in names]
    write_table(cohort / "units.tsv", units, ("participant_id", "unit", "folder", "state"))
    quality = [{"unit": p, "state": "excluded" if p == names[-1] else "used"} for p in names]
    write_table(cohort / "quality.tsv", quality, ("unit", "state"))
    own = [{"participant_id": p, "fold": f} for p, f in zip(names, folds, strict=True)]
    write_table(cohort / "folds.tsv", own, ("participant_id", "fold"))
    write_json(cohort / "folds.json", {"hash": digest(read_table(cohort / "folds.tsv"))})
    about = [
        {"participant_id": p, "age": a, "sex": s, "height": 170 if p == names[0] else None, "site": "AB"[i // (N // 2)]}
        for i, (p, a, s) in enumerate(zip(names, ages, sexes, strict=True))
    ]
    write_table(root / "participants.tsv", about, ("participant_id", "age", "sex", "height", "site"))
    for fold in set(folds):
        others = [p for p, f in zip(names, folds, strict=True) if f != fold]
        record = {"train_participants": others[3:], "validation_participants": others[:3]}
        write_json(root / "models" / f"t1-fa-fold{fold}" / "mine" / "model.json", record)
    return root


def sources(root):
    """Source of each image."""
    where = root / "synthetic" / "t1-fa-fold{fold}" / "mine"
    images = {
        "t1": {"modality": "t1", "map": str(unit_path(root, "t1w"))},
        "fa": {"modality": "fa", "map": str(unit_path(root, "fa"))},
        SYNTHETIC: {
            "modality": "fa",
            "map": str(unit_path(where, "synth-fa")),
            "record": str(root / "models" / "t1-fa-fold{fold}" / "mine" / "model.json"),
        },
        NOISE_FREE: {"modality": "fa", "map": str(unit_path(root, "fa")), "resampled": True},
    }
    return {name: Source.model_validate(image) for name, image in images.items()}


def describe(root):
    """Run `m2m features`."""
    rois = Rois(image=str(root / "labels.nii.gz"), labels=root / "labels.tsv")
    cohort = root / "cohort"
    describe_participants(
        root,
        cohort / "units.tsv",
        cohort / "quality.tsv",
        cohort / "folds.tsv",
        cohort / "folds.json",
        sources(root),
        root / "downstream/features.tsv",
        Evaluation(rois=rois),
        Slices(),
    )


def predict_cnn(root, phenotype, inputs):
    """Run `m2m predict-phenotype-cnn`."""
    table = root / "downstream/cnn" / phenotype / f"{inputs}.tsv"
    cohort = root / "cohort"
    predict_phenotype(
        phenotype,
        inputs,
        root,
        cohort / "units.tsv",
        root / "downstream/features.tsv",
        root / "participants.tsv",
        cohort / "folds.tsv",
        cohort / "folds.json",
        sources(root),
        table,
        OPTIONS,
        Slices(),
    )
    return table


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tree(tmp_path_factory.mktemp("validation"))
    describe(root)
    tables = [predict_cnn(root, "age", "fa"), predict_cnn(root, "sex", "t1"), predict_cnn(root, "height", "t1")]
    folder = root / "downstream"
    predict_phenotypes(
        folder / "features.tsv",
        root / "participants.tsv",
        root / "cohort/folds.json",
        folder,
        MEASURED_OF,
        OPTIONS,
        tables[:2],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.RC, "savefig.dpi", 50)
        draw_validation(folder, root / "participants.tsv", MEASURED_OF, root / "figures", True)
    write_page(
        folder,
        root / "figures",
        MEASURED_OF,
        True,
        load_config("config.yaml").model_dump_json(),
        root / "downstream.html",
        Report(title="A <study>"),
    )
    return root


def table(root, name):
    return pd.read_csv(root / "downstream" / f"{name}.tsv", sep="\t")


def score(root, target, name, metric, how="linear"):
    scores = table(root, "scores")
    keys = {"target": target, "input": name, "metric": metric, "predictor": how}
    (row,) = scores[(scores[list(keys)] == pd.Series(keys)).all(axis=1)].to_dict("records")
    return row


def test_features_are_of_every_participant_who_is_used(root):
    found = table(root, "features")
    names, ages, _ = subjects()
    assert list(found["participant_id"]) == names[:-1]  # the last is excluded
    front = 0.4 - 0.002 * (ages[:-1] - 50)
    np.testing.assert_allclose(found["fa:front"], front, atol=2e-3)
    np.testing.assert_allclose(found["fa:back"], 0.4, atol=2e-3)
    bins = found.filter(like=f"{SYNTHETIC}:bin")
    np.testing.assert_allclose(bins.sum(axis=1), 1, atol=1e-4)


def test_simulated_effects_are_found_where_they_were_simulated(root):
    age = score(root, "age", "fa", "r2")
    assert age["value"] > 0.95 and age["low"] > 0.9 and age["p_permutation"] == 1 / 400
    sex = score(root, "sex", "t1", "auc")
    assert sex["value"] == 1 and sex["p_permutation"] == 1 / 400
    assert score(root, "sex", SYNTHETIC, "auc")["value"] == 1


def test_p_is_corrected_over_the_inputs_of_a_phenotype(root):
    scores = table(root, "scores").dropna(subset="p_permutation")
    for _, rows in scores.groupby("target"):
        least = rows.loc[rows["p_permutation"].idxmin()]
        assert least["p_holm"] == pytest.approx(min(1, len(rows) * least["p_permutation"]))
        # Brain volume is the same for all participants, so its score does not depend on the permutation.
        varied = rows[rows["input"] != "covariates"]
        assert (varied["chance_low"] < varied["chance_high"]).all() and len(varied) == 5


def test_a_synthetic_map_without_the_effect_does_not_find_it(root):
    for name in ("t1", SYNTHETIC, "covariates"):
        row = score(root, "age", name, "r2")
        assert row["value"] < 0.2 and row["p_permutation"] > 0.05
    comparison = table(root, "comparison").set_index(["target", "input", "reference_input", "predictor"])
    assert comparison.loc[("age", SYNTHETIC, "fa", "linear"), "high"] < 0
    assert comparison.loc[("age", f"t1+{SYNTHETIC}", "t1", "linear"), "low"] < 0.05


def test_networks_of_volumes_predict_the_same_participants_as_the_other_predictors(root):
    assert score(root, "age", "fa", "r2", "cnn")["value"] > 0.5
    assert score(root, "sex", "t1", "auc", "cnn")["value"] > 0.8
    predictions = table(root, "predictions")
    own = predictions[(predictions["target"] == "age") & (predictions["input"] == "fa")]
    per_participant = own.groupby("participant_id")
    assert (per_participant["fold"].nunique() == 1).all() and (per_participant.size() == 3).all()


def test_slopes_of_the_measured_map_are_those_without_noise(root):
    recovery = table(root, "recovery").set_index(["target", "image", "reference"])
    row = recovery.loc[("age", "fa", NOISE_FREE)]
    assert row["n_within"] == row["n_regions"] == len(REGIONS)
    effects = table(root, "effects").set_index(["target", "image", "region"])
    assert effects.loc[("age", "fa", "front"), "value"] == pytest.approx(-0.002, rel=0.05)
    synthetic = effects.loc[("age", SYNTHETIC, "front")]
    assert synthetic["low"] < 0 < synthetic["high"]


def test_the_record_has_folds_seeds_hashes_and_refused_phenotypes(root):
    record = read_json(root / "downstream/downstream.json")
    assert record["folds_hash"] == read_json(root / "cohort/folds.json")["hash"]
    assert record["features_hash"] and record["options"]["seed"] == OPTIONS.seed
    assert record["folds"]["sub-02"] == "2" and record["n_subjects"] == N - 1
    assert set(record["refused"]) == {"height"}


def test_a_refused_phenotype_trains_no_network(root):
    assert read_table(root / "downstream/cnn/height/t1.tsv") == []


@pytest.mark.parametrize("name", of_validation(MEASURED_OF))
def test_each_figure_has_its_numbers(root, name):
    assert (root / "figures" / f"{name}.png").stat().st_size > 0
    assert (root / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert "</svg>" in (root / "figures" / f"{name}.svg").read_text()
    assert len(read_table(root / "figures" / f"{name}.tsv")) > 1


def test_the_page_states_what_was_found_and_what_not(root):
    page = Page((root / "downstream.html").read_text(encoding="utf-8"))
    assert "age is predicted above chance from fa alone" in page.text
    assert f"age is not predicted above chance from {SYNTHETIC} alone" in page.text
    assert f"sex is predicted above chance from {SYNTHETIC} but not from fa" in page.text
    assert "height was not predicted" in page.text
    assert "Simulated participants prove nothing about biology" in page.text
    assert "A <study>" in page.text
    addresses = [v for _, a in page.elements for k, v in a.items() if k in ("src", "href") and v]
    titles = [f"{spec.title}." for spec in of_validation(MEASURED_OF).values()]
    assert len(titles) == 6 and all(title in page.text for title in titles)
    assert addresses and all(a.startswith(("data:image/webp;base64,", "#")) for a in addresses)
    assert len(page.tables["scores-table"]) == 1 + len(table(root, "scores"))


def test_the_page_states_whether_an_image_adds_to_the_t1():
    row = {"target": "age", "predictor": "linear", "metric": "r2", "low": "0.05", "high": "0.2", "p_holm": "0.01"}
    scores = [
        {
            "target": "age",
            "input": name,
            "kind": "regression",
            "predictor": "linear",
            "metric": "r2",
            "value": "0.5",
            "low": "0.4",
            "high": "0.6",
            "chance": "0",
            "p_permutation": "0.001",
            "p_holm": "0.008",
        }
        for name in ("t1", "fa", SYNTHETIC)
    ]
    gain = row | {"input": f"t1+{SYNTHETIC}", "reference_input": "t1", "difference": "0.1"}
    tables = {"scores": scores, "comparison": [gain], "recovery": []}
    assert any("did not extract from the T1's own features" in s for s in sentences("age", tables, MEASURED_OF))
    for unclear in ({"low": "-0.05"}, {"p_holm": "0.2"}):
        tables["comparison"] = [gain | unclear]
        assert any("no evidence that the map adds to the T1" in s for s in sentences("age", tables, MEASURED_OF))


def test_a_network_trained_on_participants_of_its_fold_is_refused(tmp_path):
    write_json(tmp_path / "1.json", {"train_participants": ["sub-02"], "validation_participants": []})
    write_json(tmp_path / "2.json", {"train_participants": [], "validation_participants": ["sub-02"]})
    images = {"x": Source(modality="fa", map="", record=str(tmp_path / "{fold}.json"))}
    with pytest.raises(ValueError, match=r"x: the network of fold 2 .* sub-02; train it again"):
        require_unseen(images, {"sub-01": "1", "sub-02": "2"})


def test_sessions_of_a_participant_are_averaged_and_gaps_drop_a_feature_for_all():
    rows = pd.DataFrame(
        {
            "participant_id": ["a", "a", "b"],
            "fold": ["1", "1", "2"],
            "brain_volume_ml": [1.0, 3.0, 5.0],
            "fa:x": [0.2, 0.4, 0.6],
            "fa:y": [0.2, 0.4, np.nan],
        }
    )
    found = load_participants(rows, {"a": {"site": "A", "family_id": "f"}, "b": {"site": "B"}}, ("site",))
    assert found.images["fa"]["x"].tolist() == pytest.approx([0.3, 0.6])
    assert list(found.images["fa"]) == ["x"] and found.n_dropped == {"fa": 1}
    assert found.covariates["brain_volume_ml"].tolist() == [2, 5]
    assert found.covariates["site_A"].tolist() == [1, 0]
    assert found.families.tolist() == ["f", "b"]


def test_inputs_are_images_alone_and_with_the_t1():
    assert inputs_of(["t1", "fa", NOISE_FREE]) == ["t1", "fa", "t1+fa"]


def test_the_prediction_for_a_participant_does_not_depend_on_the_own_phenotype():
    rng = np.random.default_rng(0)
    volumes = torch.from_numpy(rng.normal(size=(12, 1, 8, 8, 8)).astype(np.float16))
    y, folds = rng.normal(size=12), np.arange(12) % 2
    options = Cnn(widths=(2, 4), steps=3)
    fabric = make_fabric(Training())
    before = predict(fabric, volumes, y, folds, "regression", options, 1)
    y[0] += 100  # in fold 0
    after = predict(fabric, volumes, y, folds, "regression", options, 1)
    np.testing.assert_array_equal(after[folds == 0], before[folds == 0])
    assert not np.allclose(after[folds == 1], before[folds == 1])


def test_predictions_of_classes_come_back_in_their_order(root):
    about = {p: {"sex": s} for p, s in zip(subjects()[0], subjects()[2], strict=True)}
    target = read_target("sex", "classification", subjects()[0][:-1], about, 5)
    values = read_predictions(root / "downstream/cnn/sex/t1.tsv", target)
    assert values.shape == (N - 1, 2)
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)


def test_volumes_of_two_shapes_are_refused_by_name(root, tmp_path):
    other = tree(tmp_path)
    name = subjects()[0][3]
    for kind in ("t1w", "brain", "target-mask", "fa"):
        path = unit_path(other, kind, name, name)
        save(path, Volume(np.ones((12, 14, 13), np.float32) * np.arange(13), np.eye(4)))
    write_table(
        other / "downstream/features.tsv", read_table(root / "downstream/features.tsv"), table(root, "features").columns
    )
    with pytest.raises(DataError, match=name):
        predict_cnn(other, "age", "t1")


def test_volumes_are_averaged_over_cubes(root):
    about = [{"unit": p, "folder": p} for p in subjects()[0][:2]]
    images = {"fa": sources(root)["fa"]}
    fold_of = dict.fromkeys(subjects()[0], "1")
    rows = [row | {"participant_id": row["unit"]} for row in about]
    fine, coarse = (load_volumes(rows, fold_of, root, images, (1, 99), n) for n in (1, 2))
    assert fine.shape == (2, 1, *SHAPE) and coarse.shape == (2, 1, 6, 7, 6)
    blocks = fine.float().reshape(2, 1, 6, 2, 7, 2, 6, 2).mean(dim=(3, 5, 7))
    torch.testing.assert_close(coarse.float(), blocks, atol=1e-3, rtol=0)


def test_every_table_has_its_columns(root):
    for name, columns in COLUMNS.items():
        assert list(table(root, name)) == list(columns)
        assert len(table(root, name)) > 0


def test_calibration_is_of_equal_shares_of_participants(root):
    found = table(root, "calibration")
    own = found[(found["target"] == "age") & (found["input"] == "fa")]
    linear = own[own["predictor"] == "linear"]
    assert linear["n_subjects"].sum() == N - 1 and len(linear) == analysis.CALIBRATION_BINS
    np.testing.assert_allclose(linear["predicted"], linear["actual"], atol=3)
    assert linear["predicted"].is_monotonic_increasing
