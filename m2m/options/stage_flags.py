"""Flags that stages share: dataset, participant, configuration, task, model."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from m2m.io.bids import require_name

Root = Annotated[Path, typer.Option("--root", help="The derivative dataset, results/<dataset>.")]
OptionalRoot = Annotated[Path | None, typer.Option("--root", help="The derivative dataset, results/<dataset>.")]
Subject = Annotated[str, typer.Option("--subject", help="Participant, e.g. sub-01.")]
Session = Annotated[
    str | None, typer.Option("--session", help="Session, e.g. ses-1, where the participant has sessions.")
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
        help="Dataset of the maps, <root>/synthetic/<task>/<model>. Default: --root.",
    ),
]


def named(what: str) -> Callable[[str], str]:
    """Callback of a flag that names a task or model: its value becomes part of a path."""

    def checked(name: str) -> str:
        return require_name(name, what)

    return checked


LowRes = Annotated[str | None, typer.Option("--low-res", help="Low resolution, e.g. dwi-2.")]
TaskName = Annotated[str, typer.Option("--task", callback=named("task"), help="Name of the task, e.g. t1-fa.")]
ModelName = Annotated[str, typer.Option("--model", callback=named("model"), help="Name of the model.")]
PageName = Annotated[
    str,
    typer.Option("--page", callback=named("report page"), help="Report page whose tasks are used: report, compare, …"),
]
