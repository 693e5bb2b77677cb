"""Flags that stages share: whose files, below which dataset, by which configuration."""

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[Path, typer.Option("--root", help="The derivative dataset, results/<dataset>.")]
Subject = Annotated[str, typer.Option("--subject", help="Whose files, e.g. sub-01.")]
Session = Annotated[
    str | None, typer.Option("--session", help="Of which session, e.g. ses-1, where there are any.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="The workflow's configuration, <root>/logs/config.json."),
]
NeededConfig = Annotated[
    Path,
    typer.Option("--config", help="The workflow's configuration, <root>/logs/config.json."),
]
MapsOf = Annotated[
    Path | None,
    typer.Option(
        "--maps",
        help="Dataset of the maps, <root>/synthetic/<task>/<model>. Default: that of --root.",
    ),
]
Low = Annotated[
    str | None, typer.Option("--low", help="Of which kind of low resolution, e.g. dwi-2.")
]
TaskName = Annotated[str, typer.Option("--task", help="Name of the task, e.g. t1-fa.")]
ModelName = Annotated[str, typer.Option("--model", help="Name of the model.")]
StudyName = Annotated[str, typer.Option("--study", help="Whose tasks: report, compare, …")]
