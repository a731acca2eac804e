"""`flow8 link`: connect accounts, import links, look at them, test them."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli import link_end
from flow8_cli.callback import awaited
from flow8_cli.files import read_bytes, read_text
from flow8_cli.helping import command
from flow8_cli.link_end import health_of
from flow8_cli.output import Output
from flow8_cli.reporting import FAILED, reporting
from flow8_cli.session import Company, Json, JsonLines, Session, User, opened

if TYPE_CHECKING:
    from credentials.links import Link

app = typer.Typer(help="Links: accounts that users have connected.", no_args_is_help=True)

COLUMNS = ["id", "service", "status", "account", "scopes", "expires", "note"]


def _services() -> list[str]:
    """For the shell's completion."""
    from credentials.providers.catalogue import BUILT_IN

    return list(BUILT_IN)


LinkId = Annotated[str, typer.Argument(metavar="ID", help="The link's id.")]


@command(
    app,
    "connect",
    "flow8 link connect slack",
    "flow8 link connect microsoft --scope Calendars.ReadWrite",
    "flow8 link connect slack --for invoice.yaml",
    "flow8 link connect slack --reconnect 6923f0c2a7d1e84b5c0f9a12",
)
def connect(
    service: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE", help="One of `flow8 providers`: slack, or your own.", autocompletion=_services
        ),
    ],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="Ask for this scope; repeatable.")] = None,
    flow: Annotated[
        str | None, typer.Option("--for", metavar="FLOW", help="Ask for the scopes that this flow needs.")
    ] = None,
    reconnect: Annotated[
        str | None, typer.Option("--reconnect", metavar="ID", help="Reconnect this link; it keeps its id.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the address in a browser.")] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for the browser's return.")
    ] = 600.0,
    as_json: JsonLines = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Connect an account: opens the vendor's page, and waits for the browser to come back.

    Asked for is what the company's flows need of the service, with what the configuration and the options name; where
    that is nothing, what the service usually gives.

    The callback is served by `flow8 serve` where that is running, else by this command. With --json: JSON lines, first
    {authorize_url}, at the end {link}.
    """
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        wanted = {*(scope or ()), *_needed(session, service, flow)}
        begun = session.platform.connect.begin(
            service, company_id=session.company_id, user_id=session.user_id, scopes=sorted(wanted), link_id=reconnect
        )
        with awaited(session, begun, service) as waiting:
            _send_away(output, begun.authorize_url, browser=browser)
            link = waiting.link(timeout)
        answer, missing = link.describe(), _warn_of_missing(output, session, link)
        if as_json:
            output.line({"link": answer} | ({"scopes_missing": missing} if missing else {}))
        else:
            output.table(COLUMNS, [_row(answer)])


@command(app, "import", "flow8 link import links.jsonl", "vault read ... | flow8 link import - --json")
def import_links(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines of links from elsewhere; - for stdin.")],
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Take over links from another system. They are sealed at once; where one is at fault, none is taken.

    A line holds service, access_token, refresh_token, token_expiry, scopes, provider_user_id, provider_user_email and
    metadata.
    """
    from credentials.link_import import LinkImport

    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        platform = session.platform
        take = LinkImport(
            platform.store,
            platform.vault,
            platform.providers,
            company_id=session.company_id,
            user_id=session.user_id,
        )
        _show(output, take.run(read_text(file, path="FILE").split("\n")))


@command(app, "list", "flow8 link list", "flow8 link list --json | jq -r '.links[].status'")
def list_links(as_json: Json = False, company: Company = None, user: User = None) -> None:
    """List the company's links with their state."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        _show(output, [link.describe() for link in session.platform.links(session.company_id).list()])


@command(app, "show", "flow8 link show 6923f0c2a7d1e84b5c0f9a12")
def show(link_id: LinkId, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Show one link: its state, what that means, what will end it, what became of it at the vendor, which permissions
    were asked for and not granted, and which plays wait for it."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        link = session.platform.links(session.company_id).get(link_id)
        output.record(link.describe() | health_of(session, link) | _concerned(session, link))


@command(app, "test", "flow8 link test 6923f0c2a7d1e84b5c0f9a12 --json")
def check_link(link_id: LinkId, as_json: Json = False, company: Company = None, user: User = None) -> None:
    """Ask the vendor whether a link works. A refresh that is due happens first. Exit 1 where it does not work."""
    from flow8_runtime.connectivity import check_link as ask

    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        answer = ask(session.platform, company_id=session.company_id, link_id=link_id)
        output.record(answer)
        if answer["status"] != "ok":
            raise typer.Exit(FAILED)


link_end.add_to(app)


def _concerned(session: Session, link: Link) -> dict[str, Any]:
    """What a link's user has not granted, and who waits for it."""
    from flow8_runtime.connecting import missing_scopes

    waits = session.platform.ledger.waits
    return {
        "scopes_missing": list(missing_scopes(session.platform, link)),
        "waiting": waits.describe(f"link:{link.id}", company_id=session.company_id),
    }


def _warn_of_missing(output: Output, session: Session, link: Link) -> list[str]:
    from flow8_runtime.connecting import missing_scopes

    missing = list(missing_scopes(session.platform, link))
    if missing:
        output.say(
            f"Not granted: {', '.join(missing)}. Steps that need it will say so; reconnect and agree to everything.",
            mark="Note:",
        )
    return missing


def _needed(session: Session, service: str, flow: str | None) -> Iterable[str]:
    """The scopes that the company's flows need of a service, and those of the flow in a file."""
    from flow8_runtime import notation
    from flow8_runtime.preflight import Preflight

    preflight = Preflight(session.platform, company_id=session.company_id, user_id=session.user_id)
    of_company = preflight.company_scopes(service)
    if flow is None:
        return of_company
    document = notation.read(read_bytes(flow, path="--for"), form=notation.form_of(flow))
    return of_company | preflight.scopes(document).get(service, frozenset())


def _send_away(output: Output, url: str, *, browser: bool) -> None:
    if output.as_json:
        output.line({"authorize_url": url})
        return
    output.say("Open this address and agree:")
    output.show(url)
    if browser:
        webbrowser.open(url)


def _show(output: Output, answers: list[dict[str, Any]]) -> None:
    output.result({"links": answers}, COLUMNS, [_row(answer) for answer in answers])


def _row(answer: dict[str, Any]) -> list[Any]:
    return [
        answer["id"], answer["service"], answer["status"], answer["account"], " ".join(answer["scopes"]),
        answer["token_expiry"] or "does not expire", answer["status_reason"] or "",
    ]  # fmt: skip
