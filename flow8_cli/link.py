"""`flow8 link`: connect accounts, import links, look at them, test them."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from flow8_cli.output import FAILED, Output
from flow8_cli.session import Company, Json, User, opened, reporting

app = typer.Typer(help="Links: accounts that users have connected.", no_args_is_help=True)

COLUMNS = ["id", "service", "status", "account", "scopes", "expires", "note"]


@app.command("connect")
def connect(
    service: Annotated[str, typer.Argument(help="slack, microsoft, or a server described in configuration.")],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="Ask for this scope too; repeatable.")] = None,
    reconnect: Annotated[
        str | None, typer.Option("--reconnect", metavar="LINK", help="Reconnect this link; it keeps its id.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the address in a browser.")] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for the browser to come back.")
    ] = 600.0,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Connect an account: opens the vendor's page, and waits for the browser to come back.

    With --json: JSON lines, first {authorize_url}, at the end {link}.

    Examples: flow8 link connect slack
              flow8 link connect microsoft --scope Calendars.ReadWrite
    """
    from flow8_cli.callback import connected

    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        begun = session.platform.connect.begin(
            service, company_id=session.company_id, user_id=session.user_id, scopes=scope or (), link_id=reconnect
        )
        with connected(session, begun, service) as waiting:
            if as_json:
                output.line({"authorize_url": begun.authorize_url})
            else:
                output.say("Open this address and agree:")
                output.console.print(begun.authorize_url, soft_wrap=True, markup=False)
            if browser and not as_json:
                webbrowser.open(begun.authorize_url)
            link = waiting.link(timeout)
        _show_connected(output, link)


@app.command("import")
def import_links(
    file: Annotated[str, typer.Argument(help="JSON lines of links from another system; - for stdin.")],
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Take over links from another system. They are sealed at once; all faults are told before anything is written.

    A line holds service, access_token, refresh_token, token_expiry, scopes, provider_user_id, provider_user_email and
    metadata.

    Example: flow8 link import links.jsonl
    """
    from credentials.link_import import LinkImport

    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        lines = (sys.stdin.read() if file == "-" else _read(file)).splitlines()
        platform = session.platform
        take = LinkImport(
            platform.store,
            platform.vault,
            platform.providers,
            company_id=session.company_id,
            user_id=session.user_id,
        )
        answers = take.run(lines)
        if as_json:
            output.document({"links": answers})
        else:
            output.table(COLUMNS, [_row(answer) for answer in answers])


@app.command("list")
def list_links(as_json: Json = False, company: Company = None, user: User = None) -> None:
    """List the company's links with their state."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        answers = [link.describe() for link in session.platform.links(session.company_id).list()]
        if as_json:
            output.document({"links": answers})
        else:
            output.table(COLUMNS, [_row(answer) for answer in answers])


@app.command("show")
def show(link_id: str, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Show one link."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        answer = session.platform.links(session.company_id).get(link_id).describe()
        if as_json:
            output.document(answer)
        else:
            output.table(["field", "value"], [[name, value] for name, value in answer.items()])


@app.command("test")
def check_link(link_id: str, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Ask the vendor whether the link works: {status, service, latency_ms, token_valid, scopes_granted, user}."""
    from flow8_runtime.connectivity import check_link as ask

    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        answer = ask(session.platform, company_id=session.company_id, link_id=link_id)
        if as_json:
            output.document(answer)
        else:
            output.table(["field", "value"], [[name, value] for name, value in answer.items()])
        if answer["status"] != "ok":
            raise typer.Exit(FAILED)


def _show_connected(output: Output, link: Any) -> None:
    answer = link.describe()
    if output.as_json:
        output.line({"link": answer})
    else:
        output.table(COLUMNS, [_row(answer)])


def _row(answer: dict[str, Any]) -> list[Any]:
    return [
        answer["id"], answer["service"], answer["status"], answer["account"], " ".join(answer["scopes"]),
        answer["token_expiry"] or "does not expire", answer["status_reason"] or "",
    ]  # fmt: skip


def _read(file: str) -> str:
    from flow8_core.errors import ValidationFailed

    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValidationFailed(f"The file cannot be read: {type(error).__name__}.", path="FILE") from None
