"""The benchmark of octaves: networks of equal multiplications, equal seconds, and a second call that trains nothing."""

import sys
from pathlib import Path

import pytest
import report_tree as tree
import toy_study

from m2m.io.tables import read_table
from m2m.options import load_config

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import octaves
import simulated_study

ROOT = Path(__file__).parents[1]
UNITS = [f"sub-{i:04d}" for i in range(1, 6)]
SECONDS = {0.0: 0.1, 0.5: 0.2}


def test_widths_grow_with_alpha_until_the_multiplications_are_those_of_alpha_0():
    base = load_config(ROOT / "config.yaml").models["m2m"]
    flat, half = (octaves.equal_in_multiplications(base, alpha) for alpha in (0, 0.5))
    assert flat == base and half.network.alpha == 0.5
    assert all(wide > narrow for wide, narrow in zip(half.network.widths, flat.network.widths, strict=True))
    assert octaves.gmac(half) == pytest.approx(octaves.gmac(flat), rel=0.05)
    assert octaves.gmac(octaves.shaped(base, 0.5, base.network.widths)) < 0.8 * octaves.gmac(flat)


def test_steps_of_equal_seconds_follow_from_the_measured_times():
    runs = octaves.runs_of([10], SECONDS)
    assert {(run.arm, run.alpha): run.steps for run in runs} == {
        ("multiplications", 0.0): 10,
        ("multiplications", 0.5): 10,
        ("seconds", 0.0): 10,
        ("seconds", 0.5): 5,
    }


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call the benchmark on five small participants, two of them for the test."""
    root = tmp_path / "template-3mm"
    tree.build(root, dict.fromkeys(UNITS, "test"))
    for unit in UNITS:
        toy_study.write_slices(root, unit)
    monkeypatch.setattr(octaves, "cohort", lambda *_: UNITS)
    monkeypatch.setattr(octaves, "pool", lambda jobs, work, workers: [work(job) for job in jobs])
    monkeypatch.setattr(octaves, "step_seconds", lambda models, rounds: SECONDS)
    counts = ["--test", "2", "--validation", "1", "--train", "2", "--budgets", "2", "--seeds", "1"]
    network = ["--config", str(ROOT / "tests" / "config.yaml"), "--model", "macro2micro"]

    def call(*arguments):
        given = ["octaves", *network, *counts, "--folder", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", [*given, *arguments])
        octaves.main()
        return read_table(tmp_path / "octaves.tsv")

    return call


def test_both_arms_are_trained_and_evaluated_once(run, tmp_path, monkeypatch, capsys):
    rows = run("--alphas", "0", "0.5")
    assert {row["participant"]: row["part"] for row in rows} == {
        "sub-0001": "test",
        "sub-0002": "test",
        "sub-0003": "validation",
    }
    values = {(row["arm"], row["alpha"]): row["pearson"] for row in rows if row["participant"] == UNITS[0]}
    assert len(values) == 4 and len(set(values.values())) == 3  # alpha 0 is the same in both arms
    assert "| equal seconds, 2 | 0.5 | " in capsys.readouterr().out
    assert (tmp_path / "octaves.png").stat().st_size > 10_000

    monkeypatch.setattr(simulated_study, "fit_model", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(octaves, "step_seconds", lambda *_: pytest.fail("timed again"))
    assert run("--best-of", str(tmp_path / "octaves.tsv")) == rows
