"""The vendors' own specifications, which tests check both sides against. They are not ours to ship: `FLOW8_CONTRACTS`
names their folder, else `shared/contracts` beside the checkout is taken."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, cast

from tests.services import missing

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "contracts"


def folder() -> Path:
    """Where the specifications lie; skips (in CI: fails) where they are missing."""
    place = Path(os.environ.get("FLOW8_CONTRACTS") or _BESIDE)
    if not place.is_dir():
        missing(f"the vendors' specifications are not at {place} (FLOW8_CONTRACTS)")
    return place


@cache
def load(name: str) -> Any:
    """One specification, as in `load("slack/oauth.json")`. Do not change what it gives."""
    place = folder() / name
    if not place.is_file():
        missing(f"{place} is not there")
    return json.loads(place.read_text())


@cache
def graph_schema(name: str) -> dict[str, Any]:
    """A Graph type ("microsoft.graph.event") as JSON Schema 2020-12 in which properties that the type does not have are
    faults. Graph answers null for any complex property, which OpenAPI 3.0 cannot say beside a reference."""
    return closed_schema("microsoft/graph.v1.trimmed.openapi.json", name)


@cache
def closed_schema(file: str, name: str) -> dict[str, Any]:
    """A type of an OpenAPI document as JSON Schema 2020-12 in which properties that the type does not have are faults,
    and null may stand for any complex one."""
    schemas = load(file)["components"]["schemas"]
    defs = {key: _closed(schema, schemas) for key, schema in schemas.items()}
    return {"$ref": f"#/$defs/{name}", "$defs": defs}


def _closed(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    properties = _properties(schema, schemas)
    if not properties:
        return {key: value for key, value in schema.items() if key != "nullable"}
    return {
        "type": "object",
        "properties": {name: _nullable(inner) for name, inner in properties.items()},
        "patternProperties": {"@odata\\.": {}},
        "additionalProperties": False,
    }


def _properties(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return _properties(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    inherited = {key: value for part in schema.get("allOf", ()) for key, value in _properties(part, schemas).items()}
    return inherited | cast(dict[str, Any], schema.get("properties", {}))


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"anyOf": [{"$ref": f"#/$defs/{schema['$ref'].rpartition('/')[2]}"}, {"type": "null"}]}
    inner = {key: value for key, value in schema.items() if key != "nullable"}
    if "items" in inner:
        inner["items"] = _nullable(inner["items"])
    return {"anyOf": [inner, {"type": "null"}]} if schema.get("nullable") else inner
