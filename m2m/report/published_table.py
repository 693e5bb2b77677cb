"""Values of a published table beside those of this study: one row per region and metric that was published."""

from collections.abc import Sequence

import pandas as pd

from m2m.evaluate.metric_records import METRICS, REGIONS
from m2m.options import Published
from m2m.report.summary_text import Row, interval, printed


def published_table(published: Published, task: str, summary: Sequence[Row], models: Sequence[str]) -> pd.DataFrame:
    """Arrange published values and those of a task's models as texts.

    Parameters
    ----------
    published : Published
    task : str
    summary : rows of summary.tsv
    models : sequence of str

    Returns
    -------
    DataFrame
        Columns region, metric, one for each published system, one for each model; no row where nothing was published
        about this task. A model is n/a in a metric that this study did not compute.
    """
    stated = published.values.get(task, {})
    rows_of = [(region, metric, by_system) for region, of in stated.items() for metric, by_system in of.items()]
    systems = list(dict.fromkeys(system for *_, by_system in rows_of for system in by_system))
    found = {(row["region"], row["metric"], row["model"]): row for row in summary}
    rows = []
    for region, metric, by_system in rows_of:
        record = METRICS.get(metric)
        own = [found.get((region, metric, model)) for model in models]
        cells = [
            f"{printed(row['mean'], record.digits)} {interval(row, record.digits)}" if row and record else "n/a"
            for row in own
        ]
        names = REGIONS.get(region, region), f"{record.title}, {record.better}" if record else metric
        rows.append([*names, *(by_system.get(system, "") for system in systems), *cells])
    columns = ["region", "metric", *(f"{system} (published)" for system in systems), *models]
    return pd.DataFrame(rows, columns=columns)


def about(published: Published) -> dict[str, str]:
    """What must be known to read published values beside others, by heading."""
    definitions = "; ".join(f"{name}: {text}" for name, text in published.definitions.items())
    texts = {
        "Source": published.source,
        "Data": published.data,
        "Access": published.access,
        "Preprocessing": published.preprocessing,
        "Split": published.split,
        "Metrics": definitions,
        "Differences": published.differences,
    }
    return {heading: " ".join(text.split()) for heading, text in texts.items() if text}
