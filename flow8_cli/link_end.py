"""`flow8 link expiring` and `flow8 link revoke`: what comes to its end, and ending it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli.helping import command
from flow8_cli.output import Output
from flow8_cli.reporting import reporting
from flow8_cli.session import Company, Json, Session, User, opened
from flow8_core.errors import Flow8Error, ValidationFailed

if TYPE_CHECKING:
    from credentials.link import Link

VENDOR_S = 10.0  # how long `revoke` itself tries to reach vendors
MOST_DAYS = 3650

EXPIRING = ["id", "service", "account", "on", "rule", "what to do"]
REVOKED = ["id", "service", "account", "here", "at the vendor"]
BREAKING = ["flow", "steps that will get access_denied"]


def add_to(app: typer.Typer) -> None:
    """Make both commands of `flow8 link`."""
    command(app, "expiring", "flow8 link expiring", "flow8 link expiring --days 30 --json")(expiring)
    command(
        app,
        "revoke",
        "flow8 link revoke 6923f0c2a7d1e84b5c0f9a12",
        "flow8 link revoke --service slack --dry-run",
        "flow8 link revoke --service slack --yes --json",
    )(revoke)


def expiring(
    days: Annotated[int, typer.Option("--days", min=1, max=MOST_DAYS, metavar="N", help="Within so many days.")] = 7,
    every: Annotated[bool, typer.Option("--all", help="Those too that are renewed by themselves.")] = False,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """List the links that somebody will have to reconnect soon: by an access token that nothing renews, by the end of a
    grant, or because nobody used it."""
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        found = session.platform.expiring(session.company_id).within(days, renewing=every)
        answers = [{**link.describe(), "forecast": end.describe(link)} for link, end in found]
        rows = [
            [a["id"], a["service"], a["account"], a["forecast"]["at"], a["forecast"]["rule"], a["forecast"]["message"]]
            for a in answers
        ]
        output.result({"links": answers}, EXPIRING, rows)


def revoke(
    link_id: Annotated[str | None, typer.Argument(metavar="ID", help="The link's id.", show_default=False)] = None,
    service: Annotated[
        str | None, typer.Option("--service", metavar="SERVICE", help="All of the company's links of this service.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the links and the flows that will break.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed with --service where nobody can be.")] = False,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Revoke a link, or all of a service: flows get access_denied at once, and the vendor gets its tokens back as soon
    as it can be reached.

    A vendor that is away is tried again by the workers; run it once more to have tried again what was given up.
    """
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        if (link_id is None) == (service is None):
            raise ValidationFailed("Name either a link's ID or a --service.", path="ID")
        links = _meant(session, link_id, service)
        flows = _breaking(session, links)
        if dry_run:
            _show(output, session, links, flows, dry_run=True)
            return
        if service is not None and links and not yes:
            _confirm(output, service, links, flows)
        _show(output, session, _revoked(session, links), flows, dry_run=False)


def health_of(session: Session, link: Link) -> dict[str, Any]:
    """What `link show` adds to a link: `{message, forecast, vendor}`."""
    from credentials import health

    vendor = session.platform.unlink(session.company_id).vendor(link) if link.status == "revoked" else None
    return {**health.told(link), "vendor": vendor}


def _meant(session: Session, link_id: str | None, service: str | None) -> Sequence[Link]:
    if link_id is not None:
        return [session.platform.links(session.company_id).get(link_id)]
    links = session.platform.unlink(session.company_id).of_service(service or "")
    if not links:
        session.platform.providers.get(service or "")  # a name that nobody knows is told as such
    return links


def _breaking(session: Session, links: Sequence[Link]) -> list[dict[str, Any]]:
    from flow8_runtime.breakage import Breakage

    live = [link for link in links if link.status != "revoked"]
    return [broken.describe() for broken in Breakage(session.platform, session.company_id).flows(live)]


def _confirm(output: Output, service: str, links: Sequence[Link], flows: Sequence[dict[str, Any]]) -> None:
    if output.as_json or not sys.stdin.isatty():
        raise ValidationFailed(
            f"This revokes {len(links)} {service} links; look with --dry-run, and say --yes.", path="--yes"
        )
    if flows:
        output.table(BREAKING, _flow_rows(flows))
    typer.confirm(f"Revoke {len(links)} {service} links? {len(flows)} flows will break.", abort=True, err=True)


def _revoked(session: Session, links: Sequence[Link]) -> Sequence[Link]:
    """Unlink, and bring to the vendors what can be brought now."""
    from flow8_core.clock import Deadline

    platform = session.platform
    unlink = platform.unlink(session.company_id, user_id=session.user_id)
    done = [unlink.link(link.id) for link in links]
    end = Deadline.after(VENDOR_S, platform.clock)
    for each in done:
        if each.item_id is not None and not end.over:
            with suppress(Flow8Error):  # the links are revoked, and the outbox has the rest
                platform.outbox.drain(budget_s=end.remaining(), only=each.item_id)
    return [each.link for each in done]


def _show(
    output: Output, session: Session, links: Sequence[Link], flows: list[dict[str, Any]], *, dry_run: bool
) -> None:
    unlink = session.platform.unlink(session.company_id)
    vendors = [unlink.vendor(link) if link.status == "revoked" else None for link in links]
    answers = [{**link.describe(), "vendor": vendor} for link, vendor in zip(links, vendors, strict=True)]
    if output.as_json:
        output.document({"dry_run": dry_run, "links": answers, "flows": flows})
        return
    output.table(REVOKED, [[a["id"], a["service"], a["account"], a["status"], a["vendor"] or ""] for a in answers])
    if flows:
        output.table(BREAKING, _flow_rows(flows), title="Flows that will break" if dry_run else "Flows that break now")
    if dry_run:
        output.say("Nothing was revoked.")
    elif "pending" in vendors:
        output.say("What is pending goes to the vendor with the next worker that runs, as often as it takes.")


def _flow_rows(flows: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [[flow["name"], ", ".join(flow["steps"])] for flow in flows]
