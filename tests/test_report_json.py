"""What report.json adds to the page: the time of the run."""

from m2m.io.files import write_text
from m2m.report.report_json import run_times

HEADING = "s\th:m:s\tcpu_time\n"


def test_times_are_summed_over_the_benchmarks_of_all_jobs(tmp_path):
    assert run_times(tmp_path, 12) is None
    write_text(tmp_path / "benchmarks/dti/sub-01.tsv", HEADING + "10.5\t0:00:10\t8.25\n")
    write_text(tmp_path / "benchmarks/train/t1-fa/m2m.tsv", HEADING + "100\t0:01:40\t190\n")
    write_text(tmp_path / "benchmarks/split/split.tsv", HEADING + "0.5\t0:00:00\tNA\n")
    times = {"jobs": 3, "cpu_seconds": 198.2, "wall_seconds": 111.0}
    # 198.25 s at 12 W are 2379 J.
    assert run_times(tmp_path, 12) == times | {"watts_per_core": 12, "cpu_kwh": 0.00066}
