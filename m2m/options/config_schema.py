"""The JSON schema of a configuration file, by which editors complete and check its keys.

References
----------
JSON Schema, draft 2020-12, https://json-schema.org/draft/2020-12/schema.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.json_schema import GenerateJsonSchema

from m2m.io.files import write_text
from m2m.options import Config

Schema = dict[str, Any]
# The first line of a YAML file, by which editors find its schema.
EDITOR_LINE = "# yaml-language-server: $schema={}"


def config_schema() -> Schema:
    """Schema of config.yaml, as the models of `m2m.options` accept it.

    It is that of `Config`, with what pydantic does not write: a model may have a ``base`` instead of
    a ``family``, and names of models, tasks and columns have their pattern and no other. Rules between
    keys (a task names known models) are not in it: the workflow checks them.
    """
    schema = Config.model_json_schema()
    ((pattern, model),) = schema["properties"]["models"]["patternProperties"].items()
    families = [part["$ref"].split("/")[-1] for part in model["oneOf"]]
    for name in families:
        own = schema["$defs"][name]
        heir = {"properties": own["properties"] | {"base": {"type": "string", "pattern": pattern}}}
        schema["$defs"][f"{name}OnBase"] = own | heir | {"required": ["base"]}
        own["required"] = [*own.get("required", ()), "family"]
    schema["properties"]["models"]["patternProperties"][pattern] = {
        "if": {"required": ["base"]},
        "then": {"anyOf": [{"$ref": f"#/$defs/{name}OnBase"} for name in families]},
        "else": model,
    }
    for part in _parts(schema):
        if "patternProperties" in part:
            part.setdefault("additionalProperties", False)
    return {"$schema": GenerateJsonSchema.schema_dialect} | schema


def _parts(schema: Any) -> Iterator[Schema]:
    """Every mapping inside a schema, the schema itself included."""
    if isinstance(schema, dict):
        yield schema
    inside = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in inside:
        yield from _parts(part)


def schema_text() -> str:
    """The schema as a file holds it."""
    return json.dumps(config_schema(), indent=1) + "\n"


def main(
    out: Annotated[Path | None, typer.Option(help="File to write, e.g. config.schema.json. Default: print it.")] = None,
) -> None:
    """Write the JSON schema of a configuration file, by which editors complete and check its keys.

    An editor finds it by the first line of the YAML file: ``# yaml-language-server:
    $schema=config.schema.json``, with the path from that file.
    """
    if out is None:
        typer.echo(schema_text(), nl=False)
        return
    write_text(out, schema_text())
    print(f"Wrote {out}. First line of a YAML file beside it: {EDITOR_LINE.format(out.name)}")
