"""`flow8 providers`: the services that can be connected, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from flow8_cli.output import Output
from flow8_cli.reporting import reporting
from flow8_cli.session import Json, foundation

EXAMPLES = (
    "flow8 providers",
    "flow8 providers quickbooks",
    "flow8 providers google --json | jq -r .redirect_uri",
)
COLUMNS = ["service", "title", "application", "site", "ends unused after", "replay", "given back"]


def _names() -> list[str]:
    """For the shell's completion."""
    from credentials.providers.catalogue import BUILT_IN

    return list(BUILT_IN)


def providers(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Show this provider: google, or one of yours.", autocompletion=_names),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the services that can be connected, or show one: addresses, scopes, how its tokens live and end.

    Among them are those of installed packages and of flow8.yaml. Nobody is asked over the network. Register the
    redirect_uri at the service, letter by letter.
    """
    from credentials.providers.catalogue import Providers

    with reporting(as_json=as_json) as output:
        settings = foundation().settings
        known = Providers(settings.oauth2, settings.services)
        if name is not None:
            _show(output, _described(known, name, settings.public_url))
            return
        found = list(_all(output, known, settings.public_url))
        output.result({"providers": found}, COLUMNS, [_row(each) for each in found])


def _all(output: Output, known: Any, public_url: str) -> Iterator[dict[str, Any]]:
    """All that can be read; a package whose provider cannot is told on stderr, and hides none of the others."""
    from flow8_core.errors import ValidationFailed

    for name in known.names():
        try:
            yield _described(known, name, public_url)
        except ValidationFailed as error:
            output.say(error.message, mark="left out:")


def _show(output: Output, described: dict[str, Any]) -> None:
    from credentials.providers.description import facts

    application = "configured" if described["configured"] else "none: set oauth2 in flow8.yaml"
    rows = [("service", described["service"]), ("title", described["title"]), ("application", application)]
    output.result(described, ["what", "how it is"], [*rows, *facts(described)])


def _described(known: Any, name: str, public_url: str) -> dict[str, Any]:
    from credentials.providers.description import describe

    provider = known.get(name)
    own = provider.app.redirect_uri if provider.app else None
    return describe(provider) | {"redirect_uri": own or f"{public_url.rstrip('/')}/auth/callback/{name}"}


def _row(described: dict[str, Any]) -> list[Any]:
    from credentials.providers.description import duration

    return [
        described["service"], described["title"], "configured" if described["configured"] else "none",
        described["site"] or "", duration(described["idle_s"]) or "never", described["replay"],
        "yes" if described["revocation"] else "no",
    ]  # fmt: skip
