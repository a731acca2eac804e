"""`flow8 modules`: what a step may name."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from flow8_cli.session import Json, reporting


def modules(
    ref: Annotated[str | None, typer.Argument(help="Show this module with its schema and examples.")] = None,
    as_json: Json = False,
) -> None:
    """List the modules that a step may name, or show one with its schema and examples.

    Examples: flow8 modules
              flow8 modules slack-message
    """
    from rich.syntax import Syntax

    from flow8_modules.catalogue import Catalogue

    with reporting(as_json=as_json) as output:
        catalogue = Catalogue()
        if ref is None:
            described = [catalogue.describe(name) for name in catalogue.refs()]
            if as_json:
                output.document({"modules": described})
            else:
                rows = [[m["ref"], m["version"], m["title"], _needs(m), m["effect"]] for m in described]
                output.table(["module", "version", "what it does", "needs", "effect"], rows)
            return
        described_one = catalogue.describe(ref)
        if as_json:
            output.document(described_one)
            return
        output.console.print(
            f"[bold]{described_one['ref']}[/bold]  version {described_one['version']}  needs {_needs(described_one)}"
        )
        output.console.print(described_one["description"], markup=False)
        properties = described_one["input_schema"].get("properties", {})
        required = set(described_one["input_schema"].get("required", ()))
        output.table(
            ["input", "required", "meaning"],
            [
                [name, "yes" if name in required else "", value.get("description", "")]
                for name, value in properties.items()
            ],
        )
        output.console.print("Example input and output:")
        for example in (described_one["args_example"], described_one["out_example"]):
            output.console.print(Syntax(json.dumps(example, indent=2), "json", background_color="default"))


def _needs(described: dict[str, object]) -> str:
    needs = described["needs"]
    if not isinstance(needs, list) or not needs:
        return "nothing"
    return ", ".join(_need(need) for need in needs)


def _need(need: dict[str, object]) -> str:
    name = (
        f"link {need.get('service') or 'of any service'}"
        if need.get("type") == "link"
        else f"component {need.get('kind')}"
    )
    return f"{name} (optional)" if need.get("optional") else name
