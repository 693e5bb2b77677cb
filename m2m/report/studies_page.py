"""Two finished studies side by side: other models, sites or protocols, with the same metrics.

Means and intervals are those of each study's summary.tsv; differences between the studies are computed from them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import m2m
from m2m.evaluate.metric_records import METRICS
from m2m.evaluate.statistics import Estimate, independent_difference
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_text
from m2m.io.overwriting import require_apart
from m2m.io.tables import read_table
from m2m.options import Task
from m2m.options.configured import Written, read_config
from m2m.report.jinja import templates
from m2m.report.summary_text import COUNTS, Row, measured, summary_rows, task_titles

# Options that differ between the configurations and are listed.
MAX_OPTIONS = 200


@dataclass(frozen=True)
class Study:
    """A finished study.

    Attributes
    ----------
    name : str
        Of its folder.
    config : Written
    flow : mapping
        Counts of participants.
    tasks : mapping of str to Task
        Evaluated tasks, by name.
    summaries : mapping of str to rows
        summary.tsv of each.
    """

    name: str
    config: Written
    flow: Mapping[str, Any]
    tasks: Mapping[str, Task]
    summaries: Mapping[str, Sequence[Row]]


def load_study(root: Path, name: str) -> Study:
    """Load the tables of a finished study.

    Parameters
    ----------
    root : Path
        Its results.
    name : str
        To call it by.

    Returns
    -------
    Study

    Raises
    ------
    DataError
        It is no folder of results, or the study is not finished.
    """
    config_file = root / "logs" / "config.json"
    if not config_file.is_file():
        remedy = "give results/<dataset> of two studies that `snakemake` finished"
        raise DataError("is no folder of results: it has no logs/config.json", file=root, remedy=remedy)
    config = read_config(config_file)
    tables = {task: root / "evaluate" / task / "summary.tsv" for task in _reported(config, root)}
    needed = [root / "cohort" / "flow.json", *tables.values()]
    if lacking := [str(path.relative_to(root)) for path in needed if not path.is_file()]:
        remedy = "run `snakemake --cores all` with the configuration of this study to its end, then compare again"
        raise DataError("is of a study that is not finished: it lacks files", file=root, value=lacking, remedy=remedy)
    if not tables:
        remedy = "compare studies with tasks in their configuration"
        raise DataError("is of a study without an evaluated task", file=root, remedy=remedy)
    summaries = {task: read_table(path) for task, path in tables.items()}
    tasks = {task: config.task(task) for task in tables}
    return Study(name, config, read_json(needed[0]), tasks, summaries)


def _reported(config: Written, root: Path) -> list[str]:
    """Tasks of the report, and those of further pages that were evaluated."""
    further = [name for page in ("compare", "ablation", "fgdl") for name in config.tasks(page)]
    return [
        *config.tasks("report"),
        *(name for name in further if (root / "evaluate" / name / "summary.tsv").is_file()),
    ]


def estimate(row: Row) -> Estimate:
    """Mean of a row of summary.tsv; the exact interval of a rate is left out, since it has no standard error."""
    has_none = row["low"] is None or row["high"] is None or METRICS[str(row["metric"])].is_rate
    low, high = (None if has_none else float(str(row[key])) for key in ("low", "high"))
    return Estimate(float(row["mean"] or "nan"), low, high, int(row["n_subjects"] or 0))


def compared_models(a: Task, b: Task) -> list[tuple[str, str]]:
    """Models whose difference is shown: those of one name in both studies, or else the first of each."""
    return [(name, name) for name in a.models if name in b.models] or [(a.models[0], b.models[0])]


def task_tables(studies: Sequence[Study], name: str) -> dict[str, Any]:
    """Values of the page's section on one task.

    Parameters
    ----------
    studies : sequence of Study
        Those that have the task, one or both.
    name : str
        Of the task.

    Returns
    -------
    dict
        name, title, columns, rows (of `summary_rows`), measured (definition of the metrics).
    """
    rows: list[dict[str, str | None]] = []
    columns = []
    for study in studies:
        columns += [f"{study.name}: {model}" for model in study.tasks[name].models]
        rows += [dict(row) | {"model": f"{study.name}: {row['model']}"} for row in study.summaries[name]]
    if len(studies) == 2:
        for pair in compared_models(*(study.tasks[name] for study in studies)):
            column = f"{pair[1]} − {pair[0]}" if pair[0] != pair[1] else pair[0]
            columns.append(f"{studies[1].name} − {studies[0].name}: {column}")
            rows += list(_differences(studies, name, pair, columns[-1]))
    task = studies[0].tasks[name]
    found = summary_rows(rows, columns)
    titles = task_titles(studies[0].tasks)
    return {"name": name, "title": titles[name], "columns": columns, "rows": found, "measured": measured(task.target)}


def _differences(
    studies: Sequence[Study], name: str, pair: tuple[str, str], column: str
) -> Iterator[dict[str, str | None]]:
    """Rows, as of summary.tsv, of the differences of two models, the second study minus the first."""
    first, second = (
        {(row["region"], row["metric"]): row for row in study.summaries[name] if row["model"] == model}
        for study, model in zip(studies, pair, strict=True)
    )
    for key in (key for key in first if key in second and key[1] in METRICS):
        found = asdict(independent_difference(estimate(second[key]), estimate(first[key])))
        numbers = {"mean": found["value"], "low": found["low"], "high": found["high"]}
        texts = {k: None if v is None or v != v else f"{v:.6g}" for k, v in numbers.items()}
        yield {"region": key[0], "metric": key[1], "model": column} | texts


def n_tested(study: Study) -> int:
    """Number of test participants, of the task with most of them."""
    return max((int(row["n_subjects"] or 0) for rows in study.summaries.values() for row in rows), default=0)


def options_of(content: object, key: str = "") -> dict[str, str]:
    """Every option of a configuration, by the dotted name of its key."""
    if not isinstance(content, Mapping):
        return {key: str(content)}
    return {k: v for name, part in content.items() for k, v in options_of(part, f"{key}.{name}".strip(".")).items()}


def same_task(a: Task, b: Task) -> bool:
    """Whether two tasks of one name have the same images, whatever their models."""
    return all(getattr(a, key) == getattr(b, key) for key in ("source", "target", "cascade", "low_res"))


def compare_studies(a: Path, b: Path, out: Path) -> None:
    """Write the page of two studies.

    Parameters
    ----------
    a, b : Path
        Their results.
    out : Path
        HTML file.

    Raises
    ------
    DataError
        One of them is not finished, or both are the same folder.
    """
    if a.resolve() == b.resolve():
        raise DataError("is given twice", file=a, remedy="give the results of two studies")
    require_apart([out], [a / "report.html", b / "report.html"])
    names = (a.resolve().name, b.resolve().name)
    if names[0] == names[1]:
        names = (f"A, {names[0]}", f"B, {names[1]}")
    studies = [load_study(root, name) for root, name in zip((a, b), names, strict=True)]
    first, second = studies
    shared = [name for name in first.tasks if name in second.tasks and same_task(first.tasks[name], second.tasks[name])]
    alone = [(study, name) for study in studies for name in study.tasks if name not in shared]
    options = [options_of(study.config.content) for study in studies]
    keys = [key for key in dict.fromkeys([*options[0], *options[1]]) if options[0].get(key) != options[1].get(key)]
    context = {
        "title": f"{names[0]} and {names[1]}",
        "names": names,
        "simulated": any(study.config.simulated for study in studies),
        "counts": [[study.name, *(study.flow.get(key, "n/a") for key in COUNTS), n_tested(study)] for study in studies],
        "count_names": [*COUNTS, "test participants"],
        "shared": [task_tables(studies, name) for name in shared],
        "alone": [{"study": study.name, **task_tables([study], name)} for study, name in alone],
        "options": [(key, *(one.get(key, "—") for one in options)) for key in keys[:MAX_OPTIONS]],
        "n_options": len(keys),
        "versions": [("m2m", m2m.__version__)],
    }
    write_text(out, templates().get_template("studies.html.j2").render(context))
    print(f"wrote {out}: {len(shared)} tasks of both studies, {len(alone)} of one")
