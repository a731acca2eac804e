"""`flow8 link refresh`: new access tokens now, by somebody's wish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli.reporting import FAILED, reporting
from flow8_cli.session import Company, Json, Session, User, opened
from flow8_core.errors import Flow8Error, ValidationFailed

if TYPE_CHECKING:
    from credentials.link import Link

EXAMPLES = ("flow8 link refresh 6923f0c2a7d1e84b5c0f9a12", "flow8 link refresh --service slack --json")
REFRESH_S = 30.0  # for each link
COLUMNS = ["id", "service", "account", "status", "expires", "note"]


def refresh(
    link_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="The link's id.")] = None,
    service: Annotated[
        str | None, typer.Option("--service", metavar="SERVICE", help="All links of this service instead.")
    ] = None,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Refresh one link now, or all of a service that work. Exit 1 where one could not be.

    Workers do this by themselves when it is due. A link of which it is unknown whether its refresh token is spent is
    left to them: a wish is no reason to lose it.
    """
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        if (link_id is None) == (service is None):
            raise ValidationFailed("Name one link by its id, or all of a service by --service.", path="ID")
        links = session.platform.links(session.company_id)
        if link_id is not None:
            output.record(_refreshed(session, links.get(link_id)).describe())
            return
        assert service is not None  # noqa: S101  # one of both was named
        session.platform.providers.get(service)
        active = [link for link in links.list(service=service) if link.status in ("active", "app_blocked")]
        answers = [_answer(session, links.get(link.id)) for link in active]
        output.result({"links": answers}, COLUMNS, [_row(answer) for answer in answers])
        if any(answer["error"] for answer in answers):
            raise typer.Exit(FAILED)


def _refreshed(session: Session, link: Link) -> Link:
    from flow8_core.clock import Deadline

    platform = session.platform
    return platform.refresher.refresh(link, deadline=Deadline.after(REFRESH_S, platform.clock))


def _answer(session: Session, link: Link) -> dict[str, Any]:
    """The link as it is afterwards, with the error that it met."""
    try:
        return _refreshed(session, link).describe() | {"error": None}
    except Flow8Error as error:
        now = session.platform.links(session.company_id).find(link.id) or link
        return now.describe() | {"error": error.to_dict()}


def _row(answer: dict[str, Any]) -> list[Any]:
    note = answer["error"]["message"] if answer["error"] else ""
    expires = answer["token_expiry"] or "does not expire"
    return [answer["id"], answer["service"], answer["account"], answer["status"], expires, note]
