"""Features harmonised over sites, scores of each site, and folds of whole sites."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from test_report import Page

from m2m.cohort.folds import fold_participants
from m2m.downstream import COLUMNS, predict_phenotypes
from m2m.downstream.combat import fit_combat
from m2m.downstream.inputs import load_participants
from m2m.downstream.prediction import explained, predict_out_of_fold, unchanged
from m2m.downstream.site_tables import ALL
from m2m.figures import style
from m2m.figures.downstream_figures import Validation
from m2m.figures.figure_records import FIGURES, of_validation
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.tables import read_table, write_table
from m2m.options import Downstream, Report, Split, load_config
from m2m.report.downstream_page import write_page

N, REGIONS, FOLDS = 120, 16, 4
SITES = ("alpha", "beta", "gamma")
MEASURED_OF = {"t1-fa.mine": "fa"}
# Of participants, by their site: an offset, and a factor of everything else.
OFFSET, FACTOR = {"alpha": 0.0, "beta": 0.08, "gamma": -0.05}, {"alpha": 1.0, "beta": 1.4, "gamma": 0.7}
# Participants 1, 6 and 12 of the example, harmonised with and without the effect of age preserved.
WITH_AGE = [
    [1.4248, 1.3789, 0.6105, 3.1793],
    [1.1176, 2.1592, 4.2762, 4.282],
    [1.2314, 2.9611, 2.434, 4.5634],
]
WITHOUT = [
    [1.0248, 2.4245, 1.4603, 3.3554],
    [1.7097, 0.8942, 3.1003, 3.9355],
    [1.1744, 3.2239, 2.6697, 4.565],
]


def draw(seed=0, offset=1.0, age_effect=-0.001):
    """Sites, ages and sexes of participants, and regional means of their FA."""
    rng = np.random.default_rng(seed)
    sites, ages, sexes = rng.choice(SITES, N), rng.uniform(20, 80, N), rng.choice(["F", "M"], N)
    own = age_effect * (ages - 50)[:, None] + 0.02 * rng.standard_normal((N, REGIONS))
    by_region = 1 + 0.3 * rng.standard_normal((3, REGIONS))
    shift = np.array([[OFFSET[site]] for site in sites]) * by_region[[SITES.index(site) for site in sites]]
    return sites, ages, sexes, 0.4 + offset * shift + own * np.array([[FACTOR[site]] for site in sites])


def loaded(sites, ages, sexes, fa, preserve=(), **columns):
    """Participants as `m2m downstream` has them."""
    names = [f"sub-{i:03d}" for i in range(len(sites))]
    features = pd.DataFrame(fa, columns=[f"fa:region{i}" for i in range(fa.shape[1])])
    features = features.assign(
        participant_id=names, fold=[str(1 + i % FOLDS) for i in range(len(names))], brain_volume_ml=1200.0
    )
    rows = {"age": ages.round(1).astype(str), "sex": sexes, "site": sites} | columns
    table = {name: {c: values[i] for c, values in rows.items()} for i, name in enumerate(names)}
    return load_participants(features, table, ("site",), preserve)


def r2(subjects, y, harmonise):
    x, who = subjects.images["fa"].to_numpy(float), (subjects.folds, subjects.families)
    return explained(y, predict_out_of_fold("linear", "regression", x, y, *who, 1, harmonise=harmonise))


def test_combat_is_that_of_neurocombat():
    """By neuroCombat 0.2.12; so are the values of neuroHarmonize 2.5.2 for participants who were not fitted."""
    i, region, sites = np.arange(12)[:, None], np.arange(4)[None], np.repeat(SITES, 4)
    age = np.array([20.0, 27, 34, 41, 48, 55, 62, 69, 26, 33, 40, 47])[:, None]
    offset = np.repeat([0, 1.5, -0.7], 4)[:, None] * (1 + 0.2 * region)
    x = np.round(np.sin(1.7 * i + 2.3 * region) + 0.02 * age * (region + 1) + offset, 3)
    with_age, without = (fit_combat(x, sites, z).apply(x, sites, z)[[0, 5, 11]] for z in (age, age[:, :0]))
    np.testing.assert_allclose(with_age, WITH_AGE, atol=1e-4)
    np.testing.assert_allclose(without, WITHOUT, atol=1e-4)


def test_site_offsets_are_removed_and_the_effect_of_age_stays():
    subjects = loaded(*(drawn := draw()), preserve=["age"])
    sites, ages, _, fa = drawn
    harmonised = subjects.harmoniser("fa")(fa, np.ones(N, bool))

    def between(values):
        return np.ptp([values[sites == site].mean(axis=0) for site in SITES], axis=0).mean()

    assert between(fa) > 0.1 and between(harmonised) < 0.01
    spreads = [np.std(harmonised[sites == site] + 0.001 * (ages[sites == site] - 50)[:, None]) for site in SITES]
    assert max(spreads) / min(spreads) < 1.15
    slopes = np.polyfit(ages, harmonised, 1)[0]
    np.testing.assert_allclose(slopes.mean(), -0.001, rtol=0.1)


def test_harmonisation_is_fitted_to_the_training_participants_alone():
    sites, ages, sexes, fa = draw()
    subjects, train = loaded(sites, ages, sexes, fa, preserve=["age"]), np.arange(N) % FOLDS != 0
    before = subjects.harmoniser("fa")(fa, train)
    changed = fa.copy()
    changed[~train] += np.random.default_rng(1).standard_normal((int((~train).sum()), REGIONS))
    changed[0] = fa[0]
    after = subjects.harmoniser("fa")(changed, train)
    np.testing.assert_array_equal(after[train], before[train])
    np.testing.assert_array_equal(after[0], before[0])  # nor does one left-out participant change another
    assert np.abs(before[~train] - fa[~train]).max() > 0.01


def test_the_predicted_phenotype_takes_no_part_in_harmonisation():
    sites, ages, sexes, fa = draw()
    subjects, train = loaded(sites, ages, sexes, fa, preserve=["age", "sex"]), np.arange(N) % 2 == 0
    other_ages = loaded(sites, ages[::-1], sexes, fa, preserve=["age", "sex"])
    both = [s.harmoniser("fa", "age")(fa, train) for s in (subjects, other_ages)]
    np.testing.assert_array_equal(*both)
    np.testing.assert_array_equal(both[0], loaded(sites, ages, sexes, fa, ["sex"]).harmoniser("fa")(fa, train))
    assert np.abs(both[0] - subjects.harmoniser("fa")(fa, train)).max() > 1e-4
    assert subjects.harmoniser("covariates") is unchanged


def test_a_phenotype_without_effect_is_at_chance_after_harmonisation():
    found = []
    for seed in range(6):
        sites, ages, sexes, fa = draw(seed)
        subjects = loaded(sites, ages, sexes, fa, preserve=["sex"])
        y = np.random.default_rng(seed).permutation(ages)
        found.append(r2(subjects, y, subjects.harmoniser("fa", "age")))
    assert -0.2 < np.mean(found) < 0.02


def test_what_follows_the_site_alone_is_not_predicted_after_harmonisation():
    sites, ages, sexes, fa = draw(age_effect=0.0)
    y = np.array([OFFSET[site] for site in sites]) + 0.02 * np.random.default_rng(2).standard_normal(N)
    subjects = loaded(sites, ages, sexes, fa)
    assert r2(subjects, y, unchanged) > 0.6 and r2(subjects, y, subjects.harmoniser("fa", "y")) < 0.05


def test_harmonisation_helps_where_sites_differ_and_hurts_little_where_they_do_not():
    gains = []
    for offset in (1.0, 0.0):
        sites, ages, sexes, fa = draw(3, offset, age_effect=-0.0005)
        if not offset:
            fa = 0.4 + (fa - 0.4) / np.array([[FACTOR[site]] for site in sites])
        subjects = loaded(sites, ages, sexes, fa[:, :4])
        gains.append(r2(subjects, ages, subjects.harmoniser("fa", "age")) - r2(subjects, ages, unchanged))
    assert gains[0] > 0.2 and abs(gains[1]) < 0.1


def test_a_site_that_the_training_participants_lack_stays_as_it_is():
    sites, ages, sexes, fa = draw()
    subjects, train = loaded(sites, ages, sexes, fa), sites != "gamma"
    harmonised = subjects.harmoniser("fa")(fa, train)
    np.testing.assert_array_equal(harmonised[~train], fa[~train])
    assert np.abs(harmonised[train] - fa[train]).max() > 0.01
    np.testing.assert_array_equal(subjects.harmoniser("fa")(fa, sites == "alpha"), fa)  # one site only


def test_constant_features_stay_and_disturb_no_other():
    sites, ages, sexes, fa = draw()
    more = np.hstack([fa, np.zeros((N, 1)), np.full((N, 1), 0.3)])
    train = np.ones(N, bool)
    harmonised = loaded(sites, ages, sexes, more).harmoniser("fa")(more, train)
    np.testing.assert_allclose(harmonised[:, -2:], more[:, -2:], atol=1e-12)
    np.testing.assert_array_equal(harmonised[:, :-2], loaded(sites, ages, sexes, fa).harmoniser("fa")(fa, train))


def test_harmonisation_refuses_what_it_cannot_separate():
    sites, ages, sexes, fa = draw()
    gaps = sites.astype(object)
    gaps[4] = None
    with pytest.raises(DataError, match=r"1 of 120 participants have no site.*sub-004"):
        loaded(gaps, ages, sexes, fa)
    with pytest.raises(DataError, match="no weight, which harmonisation needs"):
        loaded(sites, ages, sexes, fa, preserve=["weight"])
    with pytest.raises(DataError, match="not two sites"):
        loaded(np.full(N, "alpha"), ages, sexes, fa)
    field = np.where(sites == "alpha", "3", "1.5")
    subjects = loaded(sites, ages, sexes, fa, preserve=["field"], field=field)
    with pytest.raises(DataError, match=r"cannot be separated from the sites.*downstream\.preserve"):
        subjects.harmoniser("fa")(fa, np.ones(N, bool))


def test_folds_of_whole_sites_leave_each_out_once():
    rows = [{"participant_id": f"sub-{i:02d}", "site": site} for i, site in enumerate("aaaaabbbcccccccdd")]
    folds = fold_participants(rows, 4, Split(), by_site=True)
    by_site = {row["site"]: folds[row["participant_id"]] for row in rows}
    assert len(set(by_site.values())) == 4
    assert all(folds[row["participant_id"]] == by_site[row["site"]] for row in rows)
    two = Counter(fold_participants(rows, 2, Split(), by_site=True).values())
    assert sorted(two.values()) == [8, 9]
    rows[0] |= {"family_id": "f"}
    rows[-1] |= {"family_id": "f"}
    folds = fold_participants(rows, 3, Split(), by_site=True)
    assert folds["sub-00"] == folds["sub-16"] == folds["sub-01"] and len(set(folds.values())) == 3
    with pytest.raises(DataError, match=r"1 of 17 participants have none.*sub-03"):
        fold_participants([*rows[:3], rows[3] | {"site": None}, *rows[4:]], 2, Split(), by_site=True)


# The stage, its figure and its page


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sites")
    sites, ages, sexes, fa = draw(4)
    rng = np.random.default_rng(9)
    names = [f"sub-{i:03d}" for i in range(N)]
    images = {
        "t1": 0.5 + 0.02 * rng.standard_normal((N, 3)) + 0.05 * (sites == "beta")[:, None],
        "fa": fa[:, :4],
        "t1-fa.mine": fa[:, :4] + 0.02 * rng.standard_normal((N, 4)),
    }
    features = pd.DataFrame(
        {
            "unit": names,
            "participant_id": names,
            "fold": 1 + np.arange(N) % FOLDS,
            "brain_volume_ml": rng.normal(1200, 90, N),
        }
        | {f"{image}:region{i}": values[:, i] for image, values in images.items() for i in range(values.shape[1])}
    )
    (root / "downstream").mkdir()
    features.to_csv(root / "downstream/features.tsv", sep="\t", index=False)
    about = [
        {"participant_id": p, "age": round(a, 1), "sex": x, "site": s}
        for p, a, x, s in zip(names, ages, sexes, sites, strict=True)
    ]
    write_table(root / "participants.tsv", about, tuple(about[0]))
    write_json(root / "folds.json", {"hash": "of the folds"})
    options = Downstream(
        targets={"age": "regression"},
        tasks=("t1-fa",),
        folds=FOLDS,
        harmonise="combat",
        preserve=("age",),
        permutations=19,
        bootstrap=20,
    )
    folder = root / "downstream"
    predict_phenotypes(
        folder / "features.tsv", root / "participants.tsv", root / "folds.json", folder, MEASURED_OF, options
    )
    subjects = {row["participant_id"]: row for row in read_table(root / "participants.tsv")}
    validation = Validation(folder, MEASURED_OF, {"age": "regression"}, subjects)
    style.draw_all({"harmonisation": FIGURES["harmonisation"]}, validation, root / "figures", "Simulated")
    for name in of_validation(MEASURED_OF):  # drawn by other tests
        (root / f"figures/{name}.png").write_bytes((root / "figures/harmonisation.png").read_bytes())
    write_page(
        folder,
        root / "figures",
        MEASURED_OF,
        True,
        load_config("config.yaml").model_dump_json(),
        root / "downstream.html",
        Report(title="Three scanners"),
    )
    return root


def test_scores_of_each_site_are_given_with_and_without_harmonisation(root):
    table = pd.read_csv(root / "downstream/sites.tsv", sep="\t")
    assert list(table) == list(COLUMNS["sites"])
    own = table[(table["target"] == "age") & (table["input"] == "fa") & (table["metric"] == "r2")]
    own = own.set_index(["harmonise", "site"])
    assert set(own.index) == {(how, site) for how in ("none", "combat") for site in (ALL, *SITES)}
    counts = own.loc["combat", "n_subjects"]
    assert counts[ALL] == N == counts[list(SITES)].sum()
    assert own.loc[("combat", ALL), "value"] > own.loc[("none", ALL), "value"]
    assert own.loc["combat", "low"].notna().all()
    scores = pd.read_csv(root / "downstream/scores.tsv", sep="\t").set_index(["target", "input", "predictor", "metric"])
    assert scores.loc[("age", "fa", "linear", "r2"), "value"] == own.loc[("combat", ALL), "value"]


def test_scores_of_a_site_are_of_its_participants(root):
    table = pd.read_csv(root / "downstream/sites.tsv", sep="\t")
    predictions = pd.read_csv(root / "downstream/predictions.tsv", sep="\t")
    sites = {row["participant_id"]: row["site"] for row in read_table(root / "participants.tsv")}
    chosen = (predictions["target"] == "age") & (predictions["input"] == "fa") & (predictions["predictor"] == "linear")
    errors = predictions[chosen].groupby(predictions["participant_id"].map(sites))["error"].mean()
    own = table[(table["target"] == "age") & (table["input"] == "fa") & (table["metric"] == "mae")]
    own = own[own["harmonise"] == "combat"].set_index("site")["value"]
    np.testing.assert_allclose(own[list(SITES)], errors[list(SITES)], rtol=1e-4)


def test_harmonised_features_are_written_and_differ_less_between_sites(root):
    after = pd.read_csv(root / "downstream/harmonised.tsv", sep="\t").set_index("participant_id")
    before = pd.read_csv(root / "downstream/features.tsv", sep="\t").set_index("participant_id")
    column = "fa:region0"
    between = [np.ptp(t[column].groupby(after["site"]).mean()) for t in (before, after)]
    assert between[1] < 0.2 * between[0]
    assert set(after.columns) == {"site", "fold", *(c for c in before if ":" in c)}


def test_the_figure_and_the_page_show_what_harmonisation_did(root):
    rows = read_table(root / "figures/harmonisation.tsv")
    of_features, of_scores = ([row for row in rows if bool(row["harmonise"]) is scored] for scored in (False, True))
    assert len(of_features) == 3 * N and {row["harmonise"] for row in of_scores} == {"none", "combat"}
    assert set(of_validation(MEASURED_OF, True)) - set(of_validation(MEASURED_OF)) == {"harmonisation"}
    page = Page((root / "downstream.html").read_text(encoding="utf-8"))
    assert "harmonised over 3 sites by ComBat" in page.text and "keeps the effects of age" in page.text
    assert "What harmonisation did." in page.text
    assert len(page.tables["sites-table"]) == 1 + len(read_table(root / "downstream/sites.tsv"))


def test_a_left_out_site_is_on_record(root, tmp_path):
    features = pd.read_csv(root / "downstream/features.tsv", sep="\t")
    sites = [row["site"] for row in read_table(root / "participants.tsv")]
    features["fold"] = [1 + SITES.index(site) for site in sites]
    features.to_csv(tmp_path / "features.tsv", sep="\t", index=False)
    options = Downstream(targets={"age": "regression"}, harmonise="combat", permutations=0, bootstrap=5)
    predict_phenotypes(
        tmp_path / "features.tsv", root / "participants.tsv", root / "folds.json", tmp_path, MEASURED_OF, options
    )
    record = read_json(tmp_path / "downstream.json")["harmonised"]
    assert record["left_as_they_are"] == {"1": ["alpha"], "2": ["beta"], "3": ["gamma"]}
    assert sum(record["sites"].values()) == N
    table = pd.read_csv(tmp_path / "sites.tsv", sep="\t")
    assert table.loc[table["site"] != ALL, "low"].isna().all()  # one fold of each site: no interval over folds


def test_without_sites_nothing_is_by_site(root, tmp_path):
    table = [{k: row[k] for k in ("participant_id", "age")} for row in read_table(root / "participants.tsv")]
    write_table(tmp_path / "participants.tsv", table, ("participant_id", "age"))
    options = Downstream(targets={"age": "regression"}, permutations=0, bootstrap=5)
    features = root / "downstream/features.tsv"
    predict_phenotypes(features, tmp_path / "participants.tsv", root / "folds.json", tmp_path, MEASURED_OF, options)
    assert read_table(tmp_path / "sites.tsv") == [] and not (tmp_path / "harmonised.tsv").exists()
    record = read_json(tmp_path / "downstream.json")
    assert "harmonised" not in record and not {"harmonise", "preserve", "folds_by"} & record["options"].keys()
