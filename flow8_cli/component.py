"""`flow8 component`: a company's configuration with API keys. Secrets come by prompt, standard input or file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flow8_cli.session import Company, Json, User, opened, reporting

app = typer.Typer(help="Components: configuration with API keys, one kind a purpose.", no_args_is_help=True)


@app.command("add")
def add(
    file: Annotated[
        str | None, typer.Option("--file", help="The body {name, kind, config} as JSON; - for stdin.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name, unique in the company.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="storage, ai, db, request, console, email or file_transfer.")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="A setting that is no secret: NAME=VALUE.")] = None,
    secret: Annotated[list[str] | None, typer.Option("--secret", help="Ask for this secret: its NAME alone.")] = None,
    default: Annotated[bool, typer.Option("--default", help="Make it the default of its kind.")] = False,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Store a component. No secret is ever taken from the command line, where others could read it.

    Examples: flow8 component add --file s3.json
              flow8 component add --name s3-prod --kind storage --set provider=s3 --set bucket=artifacts \\
                  --secret access_key_id --secret secret_access_key
    """
    from flow8_core.errors import ValidationFailed

    with reporting(as_json=as_json) as output:
        if file is not None:
            body = _read_body(file)
        elif name and kind:
            body = {"name": name, "kind": kind, "config": _settings(setting or []) | _ask(secret or [])}
        else:
            raise ValidationFailed("Give --file, or --name and --kind.", path="name")
        if default:
            body["is_default"] = True
        with opened(company=company, user=user) as session:
            answer = session.platform.components(session.company_id, user_id=session.user_id).add(body)
        if as_json:
            output.document(answer)
            return
        output.table(
            ["id", "name", "kind", "default"], [[answer["id"], answer["name"], answer["kind"], answer["is_default"]]]
        )
        for warning in answer.get("warnings", ()):
            output.say(f"[yellow]note[/yellow] {warning}")


@app.command("list")
def list_components(as_json: Json = False, company: Company = None, user: User = None) -> None:
    """List the company's components, without their secrets."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        found = session.platform.components(session.company_id).list()
        if as_json:
            output.document({"components": found})
            return
        rows = [[c["id"], c["name"], c["kind"], "yes" if c["is_default"] else "", _summary(c)] for c in found]
        output.table(["id", "name", "kind", "default", "configuration"], rows)


@app.command("show")
def show(component_id: str, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Show one component, without its secrets."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        found = session.platform.components(session.company_id).get(component_id)
        if as_json:
            output.document(found)
        else:
            output.table(["field", "value"], [[name, _plain(value)] for name, value in found.items()])


@app.command("default")
def default_component(component_id: str, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Make a component the default of its kind."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        answer = session.platform.components(session.company_id, user_id=session.user_id).set_default(component_id)
        if as_json:
            output.document(answer)
        else:
            output.say(f"{answer['name']} is now the default of kind {answer['kind']}.")


@app.command("rm")
def remove(component_id: str, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Delete a component. Steps that name it fail with access_denied from then on."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        session.platform.components(session.company_id, user_id=session.user_id).remove(component_id)
        if as_json:
            output.document({"deleted": component_id})
        else:
            output.say(f"Deleted component {component_id}.")


def _read_body(file: str) -> dict[str, Any]:
    from flow8_core.errors import ValidationFailed

    try:
        body = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ValidationFailed(f"The file cannot be read: {type(error).__name__}.", path="--file") from None
    except ValueError:
        raise ValidationFailed("The file is not JSON.", path="--file") from None
    if not isinstance(body, dict):
        raise ValidationFailed("The body is an object: {name, kind, config}.", path="$")
    return body


def _settings(pairs: list[str]) -> dict[str, Any]:
    from flow8_core.errors import ValidationFailed

    settings: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise ValidationFailed("A setting reads NAME=VALUE.", path="--set")
        settings[name] = value
    return settings


def _ask(names: list[str]) -> dict[str, str]:
    if names and not sys.stdin.isatty():
        lines = sys.stdin.read().splitlines()
        return dict(zip(names, lines, strict=False))
    return {name: typer.prompt(name, hide_input=True) for name in names}


def _summary(component: Any) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in component["config_summary"].items())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
