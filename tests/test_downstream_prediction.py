"""Predictors find simulated effects, nothing without an effect, and are not fitted to whom they predict."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from m2m.downstream import analysis
from m2m.downstream.effects import hedges_g
from m2m.downstream.permutation import permutation_test, ridge_out_of_fold
from m2m.downstream.prediction import (
    CHANCE,
    METRICS,
    PREDICTORS,
    Predicted,
    area_within_folds,
    predict_out_of_fold,
)
from m2m.downstream.targets import RefusedTarget, Target, read_target
from m2m.evaluate.statistics import bootstrap_over_participants, intraclass_correlation, over_folds, slope
from m2m.report.downstream_page import verdict

N, FEATURES = 100, 12
FOLDS, ALONE = np.arange(N) % 5, np.arange(N)


def scores(kind, y, predicted):
    """Every metric by its name."""
    return {name: measure(y, predicted) for name, measure in METRICS[kind].items()}


def draw(seed, effect=0.0):
    """Features of participants, their age and sex; the first feature follows both."""
    rng = np.random.default_rng(seed)
    age, sex = rng.uniform(20, 80, N), rng.integers(0, 2, N)
    x = rng.standard_normal((N, FEATURES))
    x[:, 0] += effect * (age - 50) / 17
    x[:, 1] += effect * (2 * sex - 1)
    return x, age, sex


@pytest.mark.parametrize("name", PREDICTORS)
def test_simulated_effects_are_found(name):
    x, age, sex = draw(0, effect=2.0)
    found = scores("regression", age, predict_out_of_fold(name, "regression", x, age, FOLDS, ALONE, 1))
    assert found["r2"] > 0.5 and found["mae"] < 11
    found = scores("classification", sex, predict_out_of_fold(name, "classification", x, sex, FOLDS, ALONE, 1))
    assert found["auc"] > 0.9 and found["balanced_accuracy"] > 0.8


@pytest.mark.parametrize("name", PREDICTORS)
def test_without_an_effect_predictors_are_at_chance(name):
    r2, auc = [], []
    for seed in range(8):
        x, age, sex = draw(seed)
        p = predict_out_of_fold(name, "regression", x, age, FOLDS, ALONE, 1)
        r2.append(scores("regression", age, p)["r2"])
        p = predict_out_of_fold(name, "classification", x, sex, FOLDS, ALONE, 1)
        auc.append(scores("classification", sex, p)["auc"])
    assert -0.2 < np.mean(r2) < 0.02
    assert np.mean(auc) == pytest.approx(0.5, abs=0.06)


def test_intervals_of_cross_validation_include_chance_without_an_effect():
    """Intervals of fixed predictors do so in four of five draws only."""
    held = {"new": [], "fixed": []}
    for seed in range(24):
        x, age, sex = draw(seed)
        for kind, y in (("regression", age), ("classification", sex)):
            predicted = predict_out_of_fold("linear", kind, x, y, FOLDS, ALONE, 1)
            for name, chance in CHANCE.items():
                if name in METRICS[kind]:

                    def value(index, y=y, predicted=predicted, measure=METRICS[kind][name]):
                        return measure(y[index], predicted.of(index))

                    estimate = over_folds(value, FOLDS)
                    held["new"].append(estimate.low <= chance <= estimate.high)
                    estimate = bootstrap_over_participants(value, N, 200, 1)
                    held["fixed"].append(estimate.low <= chance <= estimate.high)
    assert np.mean(held["new"]) > 0.87 > 0.84 > np.mean(held["fixed"])


def test_an_interval_over_folds_is_that_of_nadeau_and_bengio():
    values = np.array([0.5, 0.7, 0.6, 0.4, 0.8])
    found = over_folds(lambda index: values[FOLDS[index]].mean(), FOLDS)
    half = 2.776445 * np.sqrt(0.025 * (1 / 5 + 1 / 4))
    assert (found.low, found.value, found.high) == pytest.approx((0.6 - half, 0.6, 0.6 + half))
    assert over_folds(lambda index: 1.0, np.arange(N) % 2).low is None


def test_the_own_phenotype_does_not_change_a_participants_prediction():
    x, age, _ = draw(3, effect=1.0)
    before = predict_out_of_fold("linear", "regression", x, age, FOLDS, ALONE, 1)
    changed = age.copy()
    changed[FOLDS == 2] += 40
    after = predict_out_of_fold("linear", "regression", x, changed, FOLDS, ALONE, 1)
    np.testing.assert_array_equal(after.values[FOLDS == 2], before.values[FOLDS == 2])
    assert np.abs(after.values - before.values)[FOLDS != 2].mean() > 1


def test_a_family_in_two_folds_is_refused():
    x, age, _ = draw(0)
    families = ALONE.copy()
    families[1] = families[0]
    with pytest.raises(ValueError, match="two folds"):
        predict_out_of_fold("linear", "regression", x, age, FOLDS, families, 1)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_inner_folds_keep_families_together(kind):
    from m2m.downstream.prediction import inner_folds

    families = np.arange(90) // 3
    y = np.arange(90) % 2 if kind == "classification" else np.arange(90.0)
    for train, test in inner_folds(kind, y, families, 0):
        assert not set(families[train]) & set(families[test])


def test_predicting_the_mean_of_the_other_folds_scores_0():
    y = np.array([1.0, 2, 3, 4])
    baseline = np.array([3.5, 3.5, 1.5, 1.5])
    found = scores("regression", y, Predicted(baseline, baseline, baseline))
    assert found["r2"] == 0
    labels = np.array([0, 0, 1, 1])
    shares = np.full((4, 2), 0.5)
    found = scores("classification", labels, Predicted(shares, shares, np.zeros(4)))
    assert (found["auc"], found["balanced_accuracy"], found["brier_skill"]) == (0.5, 0.5, 0.0)
    assert np.isnan(scores("regression", y, Predicted(baseline, baseline, baseline))["r"])


def test_the_area_is_that_of_an_independent_implementation():
    rng = np.random.default_rng(0)
    truth, score = rng.integers(0, 2, 50).astype(bool), rng.integers(0, 9, 50).astype(float)  # ties
    area = area_within_folds(truth, score, np.zeros(50))
    assert area == pytest.approx(roc_auc_score(truth, score))


def test_permutations_distinguish_an_effect_from_none():
    x, age, sex = draw(5, effect=1.5)
    aged = permutation_test("regression", x, age, FOLDS, 99, 1)
    assert aged.p == 0.01 and aged.low < aged.high < 0.5
    assert permutation_test("classification", x, sex, FOLDS, 19, 1).p == 0.05
    x, age, _ = draw(6)
    assert permutation_test("regression", x, age, FOLDS, 99, 1).p > 0.05
    assert np.isnan(permutation_test("regression", x, age, FOLDS, 0, 1)).all()


def test_p_of_no_effect_is_uniform():
    found = []
    for seed in range(40):
        x, age, sex = draw(seed)
        found.append(permutation_test("regression", x, age, FOLDS, 39, seed).p)
        found.append(permutation_test("classification", x, sex, FOLDS, 39, seed).p)
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.1)


def test_ridge_of_many_targets_is_that_of_each():
    x, age, _ = draw(7, effect=1.0)
    both = ridge_out_of_fold(x, np.stack([age[::-1], age], axis=1), FOLDS)
    alone = predict_out_of_fold("linear", "regression", x, age, FOLDS, ALONE, 1)
    np.testing.assert_allclose(both[:, 1], alone.values)


def test_what_was_learnt_from_one_image_is_applied_to_another():
    x, age, _ = draw(7, effect=2.0)
    same = predict_out_of_fold("linear", "regression", x, age, FOLDS, ALONE, 1)
    applied = predict_out_of_fold("linear", "regression", x, age, FOLDS, ALONE, 1, x)
    np.testing.assert_array_equal(same.values, applied.values)
    other = predict_out_of_fold("linear", "regression", x, age, FOLDS, ALONE, 1, x[::-1])
    assert scores("regression", age, other)["r2"] < 0 < scores("regression", age, same)["r2"]


def subjects(values, **columns):
    """Rows of participants.tsv."""
    return {f"sub-{i}": {"value": value} | {k: v[i] for k, v in columns.items()} for i, value in enumerate(values)}


def test_missing_values_are_dropped_with_a_count():
    table = subjects(["1.5", None, "89+", "2", "3"])
    target = read_target("value", "regression", list(table), table, 3)
    assert target.subjects == ["sub-0", "sub-3", "sub-4"]
    assert target.n_missing == 2
    np.testing.assert_array_equal(target.y, [1.5, 2, 3])


def test_classes_are_numbered_in_alphabetical_order():
    table = subjects(["M", "F", "F", "M"])
    target = read_target("value", "classification", list(table), table, 2)
    assert target.classes == ("F", "M")
    np.testing.assert_array_equal(target.y, [1, 0, 0, 1])


@pytest.mark.parametrize(
    ("table", "kind", "reason"),
    [
        (subjects(["7"] * 30), "regression", "does not vary"),
        (subjects([None] * 30), "classification", "no participant has a value"),
        (subjects([str(i) for i in range(9)]), "regression", "9 participants have a value"),
        (subjects(["F"] * 30 + ["M"] * 3), "classification", r"M \(3\)"),
        (subjects(["F"] * 30 + ["M"] * 30, site=["a"] * 30 + ["b"] * 30), "classification", "site"),
    ],
)
def test_a_target_that_cannot_be_predicted_is_refused_with_the_reason(table, kind, reason):
    with pytest.raises(RefusedTarget, match=reason):
        read_target("value", kind, list(table), table, 10)


def test_an_unknown_column_is_refused_with_those_that_exist():
    with pytest.raises(RefusedTarget, match="no column iq; it has age, sex"):
        read_target("iq", "regression", ["sub-0"], {"sub-0": {"sex": "F", "age": "3"}}, 1)


def test_the_intraclass_correlation_is_that_of_the_textbook():
    """Example of Shrout and Fleiss (1979), Psychol Bull 86:420: ICC(2,1) of it is .29."""
    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    assert intraclass_correlation(ratings) == pytest.approx(0.29, abs=0.005)
    assert intraclass_correlation(np.stack([ALONE, ALONE], 1)) == 1


def test_the_share_of_a_class_in_a_bin_has_its_exact_interval_and_a_mean_that_of_students_t():
    rising = np.linspace(0.05, 0.95, 40)
    y = (rising > 0.5).astype(int)
    both = Predicted(np.stack([1 - rising, rising], 1), np.full((40, 2), 0.5), np.arange(40) % 2)
    sex = Target("sex", "classification", [f"sub-{i}" for i in range(40)], y, ("F", "M"), 0)
    first, *_, last = analysis.calibration_rows(sex, {("fa", "linear"): both})
    assert (first["actual"], first["low"], first["high"]) == pytest.approx((0, 0, 0.3694), abs=1e-4)  # 0 of 8
    assert (last["actual"], last["low"], last["high"]) == pytest.approx((1, 0.6306, 1), abs=1e-4)  # 8 of 8
    age = Target("age", "regression", sex.subjects, 50 + np.arange(40.0), (), 0)
    first, *_ = analysis.calibration_rows(age, {("fa", "linear"): both._replace(values=rising)})
    known = stats.t.interval(0.95, 7, 53.5, stats.sem(np.arange(8)))
    assert (first["low"], first["high"]) == pytest.approx(known)


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "expected"),
    [
        ("0.1", "0.3", "0.04", "better"),
        ("-0.3", "-0.1", "0.04", "worse"),
        ("0.1", "0.3", "0.06", "not significantly different"),
        ("-0.1", "0.3", "0.01", "not significantly different"),
        (None, None, "0.01", "too few participants"),
    ],
)
def test_a_difference_of_inputs_is_called_one_by_the_corrected_p(low, high, p_holm, expected):
    assert verdict({"low": low, "high": high, "p_holm": p_holm}) == expected


def test_intervals_of_effects_cover_the_simulated_one():
    rng = np.random.default_rng(0)
    slopes = groups = 0
    for _ in range(200):
        x = rng.uniform(20, 80, 40)
        found = slope(x, -0.01 * x + rng.standard_normal(40))
        slopes += found.low < -0.01 < found.high
        found = hedges_g(rng.standard_normal(30) + 0.8, rng.standard_normal(30))
        groups += found.low < 0.8 < found.high
    assert 180 <= slopes <= 198 and 180 <= groups <= 199
    a, b = rng.standard_normal(12), rng.standard_normal(15)
    t = stats.ttest_ind(a, b).statistic
    assert hedges_g(a, b).value == pytest.approx((1 - 3 / (4 * 25 - 1)) * t * np.sqrt(1 / 12 + 1 / 15))
