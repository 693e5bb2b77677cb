"""The benchmark of own pairs: arms from trained and from random weights, and a second call that does nothing again."""

import sys
from pathlib import Path

import pytest
import report_tree as tree
import toy_study
from small_families import small

from m2m.io.tables import read_table

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import own_pairs
import simulated_study

UNITS = [f"sub-{i:04d}" for i in range(1, 6)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call the benchmark on five small participants, three of them for the test."""
    root = tmp_path / "other"
    tree.build(root, dict.fromkeys(UNITS, "test"))
    for unit in UNITS:
        toy_study.write_slices(root, unit)
    training = {"steps": 3, "batch_size": 4, "threads": 1}
    start = own_pairs.fit(root, tmp_path / "start", {"train": UNITS[:2]}, small("unet", training=training))
    monkeypatch.setattr(own_pairs, "cohort", lambda *_: UNITS)
    monkeypatch.setattr(own_pairs, "pool", lambda jobs, work, workers: [work(job) for job in jobs])

    def call(*arguments):
        given = ["own_pairs", "--weights", str(start), "--folder", str(tmp_path), "--test", "3", "--steps", "2"]
        monkeypatch.setattr(sys, "argv", [*given, *arguments])
        own_pairs.main()
        return read_table(tmp_path / "own-pairs.tsv")

    return call


def test_each_number_of_pairs_has_three_arms_on_the_same_test_participants(run, tmp_path, monkeypatch, capsys):
    rows = run("--pairs", "0", "2")
    arms = {(row["pairs"], row["arm"]) for row in rows}
    assert {(int(n), arm) for n, arm in arms} == {(0, "fine-tuned"), *((2, arm) for arm in own_pairs.ARMS)}
    assert {row["participant"] for row in rows} == set(UNITS[:3]) and len(rows) == 4 * 3 * 2
    values = {(int(r["pairs"]), r["arm"]): float(r["pearson"]) for r in rows if r["region"] == "brain"}
    assert len(set(values.values())) == len(values)
    text = capsys.readouterr().out
    assert "| 0 | as it is |" in text and "| 2 | from random weights |" in text and "3 simulated test" in text
    assert (tmp_path / "own-pairs.png").stat().st_size > 10_000

    monkeypatch.setattr(simulated_study, "fit_model", lambda *_, **__: pytest.fail("trained again"))
    assert run("--pairs", "0", "2") == rows
