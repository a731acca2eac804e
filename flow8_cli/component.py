"""`flow8 component`: a company's configuration with API keys. Secrets come by prompt, standard input or file."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flow8_cli.component_body import Given, body_of
from flow8_cli.files import read_object
from flow8_cli.helping import command
from flow8_cli.output import plain
from flow8_cli.reporting import reporting
from flow8_cli.session import Company, Json, User, opened
from flow8_core.errors import ValidationFailed

app = typer.Typer(help="Components: configuration with API keys, one kind a purpose.", no_args_is_help=True)

COLUMNS = ["id", "name", "kind", "default", "configuration"]


def _kinds() -> list[str]:
    """For the shell's completion."""
    from credentials.component_kinds import KINDS

    return list(KINDS)


Reference = Annotated[str, typer.Argument(metavar="COMPONENT", help="The component's id or name.")]


@command(
    app,
    "add",
    "flow8 component add --file s3.json",
    "vault kv get -format=json s3 | jq .data | flow8 component add --file -",
    "flow8 component add --name prod --kind storage \\",
    "    --set provider=s3 --set bucket=artifacts --set region=eu-central-1 \\",
    "    --secret access_key_id --secret secret_access_key",
    "flow8 component add --name drop --kind file_transfer \\",
    "    --set protocol=sftp --set host=sftp.example.com --set username=flow8 \\",
    "    --set host_key=SHA256:... --secret-file private_key=id_ed25519",
)
def add(
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="The body {name, kind, config} as JSON; - for stdin.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name, unique in the company.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="storage, ai, db, request, console, email or file_transfer.",
            autocompletion=_kinds,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting that is no secret; auth.type reaches deeper."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME", help="Ask for this secret, or read it as the next line of stdin."),
    ] = None,
    secret_file: Annotated[
        list[str] | None, typer.Option("--secret-file", metavar="NAME=FILE", help="Read this secret from a file.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Make it the default of its kind.")] = False,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Store a component. No secret is ever taken from the command line, where others could read it."""
    with reporting(as_json=as_json) as output:
        given = Given(setting or [], secret or [], secret_file or [])
        body = _body(file, name, kind, given)
        if default:
            body["is_default"] = True
        with opened(company=company, user=user) as session:
            answer = session.platform.components(session.company_id, user_id=session.user_id).add(body)
        output.result(answer, COLUMNS, [_row(answer)])
        for warning in answer["warnings"] if not as_json else ():
            output.say(warning, mark="note")


@command(app, "list", "flow8 component list", "flow8 component list --json")
def list_components(as_json: Json = False, company: Company = None, user: User = None) -> None:
    """List the company's components, without their secrets."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        found = session.platform.components(session.company_id).list()
        output.result({"components": found}, COLUMNS, [_row(each) for each in found])


@command(app, "show", "flow8 component show prod")
def show(component: Reference, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Show one component, without its secrets."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        output.record(session.platform.components(session.company_id).get(component))


@command(app, "default", "flow8 component default prod")
def make_default(component: Reference, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Make a component the default of its kind: the one that steps get when they name none."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        answer = session.platform.components(session.company_id, user_id=session.user_id).set_default(component)
        output.result(answer, COLUMNS, [_row(answer)])


@command(app, "rm", "flow8 component rm prod")
def remove(component: Reference, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Delete a component. Steps that name it fail with access_denied from then on."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        components = session.platform.components(session.company_id, user_id=session.user_id)
        found = components.get(component)
        components.remove(found["id"])
        if as_json:
            output.document({"deleted": found["id"]})
        else:
            output.say(f"Deleted {found['name']}. Revoke its key at the vendor, if nothing else uses it.")


def _body(file: str | None, name: str | None, kind: str | None, given: Given) -> dict[str, Any]:
    if file is not None:
        if name or kind or given:
            raise ValidationFailed("The file says it all: give --file, or --name and --kind.", path="--file")
        return read_object(file, path="--file")
    if not name or not kind:
        raise ValidationFailed("Give --file, or --name and --kind.", path="--name")
    return body_of(name, kind, given)


def _row(component: Any) -> list[Any]:
    summary = ", ".join(f"{name}={plain(value)}" for name, value in component["config_summary"].items())
    default = "yes" if component["is_default"] else ""
    return [component["id"], component["name"], component["kind"], default, summary]
