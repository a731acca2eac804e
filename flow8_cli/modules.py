"""`flow8 modules`: what a step may name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from flow8_cli.output import Output
from flow8_cli.reporting import reporting
from flow8_cli.session import Json, foundation

EXAMPLES = (
    "flow8 modules",
    "flow8 modules slack-message",
    "flow8 modules s3-upload@1 --json | jq .input",
)


def _refs() -> list[str]:
    """For the shell's completion."""
    from flow8_modules.catalogue import Catalogue

    return [ref.partition("@")[0] for ref in Catalogue().refs()]


def modules(
    ref: Annotated[
        str | None,
        typer.Argument(metavar="REF", help="Show this module: slack-message, slack-message@1.", autocompletion=_refs),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the modules that a step may name, or show one with its schema and examples."""
    from flow8_modules.catalogue import Catalogue

    with reporting(as_json=as_json) as output:
        catalogue = Catalogue(foundation().settings.modules)
        if ref is None:
            found = [catalogue.describe(name) for name in catalogue.refs()]
            rows = [[m["ref"], m["version"], m["title"], _needs(m), m["effect"]] for m in found]
            output.result({"modules": found}, ["module", "version", "what it does", "needs", "effect"], rows)
        elif as_json:
            output.document(catalogue.describe(ref))
        else:
            _show(output, catalogue.describe(ref))


def _show(output: Output, module: Mapping[str, Any]) -> None:
    output.show(f"{module['ref']}@{module['version']}: {module['description']}\n")
    output.show(f"needs: {_needs(module)}\nrepeating it: {module['effect']}\n")
    for title in ("input", "output"):
        output.table([title, "type", "must", "meaning"], _fields(module[title]))
        output.show("")
    output.show(f"Example of input_mapping:\n{_json(module['args_example'])}\n")
    output.show(f"Example of an output:\n{_json(module['out_example'])}")


def _fields(schema: Mapping[str, Any]) -> list[list[str]]:
    required = schema.get("required", ())
    return [
        [name, _type(field), "yes" if name in required else "", field.get("description", "")]
        for name, field in schema.get("properties", {}).items()
    ]


def _type(field: Mapping[str, Any]) -> str:
    """A JSON Schema's type in a word or two."""
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "$ref" in field:
        return "object"
    alternatives = [_type(each) for each in field.get("anyOf", field.get("oneOf", ()))]
    if alternatives:
        return " or ".join(dict.fromkeys(each for each in alternatives if each != "null"))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return str(field.get("type", "any"))


def _needs(module: Mapping[str, Any]) -> str:
    return ", ".join(map(_need, module["needs"])) or "nothing"


def _need(need: Mapping[str, Any]) -> str:
    """A need as `describe` of flow8_modules.needs gives it, in words."""
    if "one_of" in need:
        words = " or ".join(map(_need, need["one_of"]))
    elif "link" in need:
        allowed = f" ({', '.join(need['scopes'])})" if need["scopes"] else ""
        words = ("a link of any service" if need["link"] == "any" else f"a {need['link']} link") + allowed
    else:
        words = f"a component: {need['component']}" + (f" ({need['provider']})" if need["provider"] else "")
    return f"{words}, optional" if need["optional"] else words


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
