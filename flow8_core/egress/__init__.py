"""Guarded, pooled HTTP: the one way out, for our own calls and for every vendor SDK.

`Egress.send` for a request and its whole answer; `Egress.open` for an answer on the wire (botocore, streams);
`Egress.session` and `Egress.guard` for requests and requests-oauthlib.

Names are imported when they are first asked for: settings and hosts are read by every command, and HTTP by few.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flow8_core.egress.answer import Answer
    from flow8_core.egress.egress import Egress
    from flow8_core.egress.hosts import Hosts
    from flow8_core.egress.response import Response
    from flow8_core.egress.settings import EgressSettings

__all__ = ["Answer", "Egress", "EgressSettings", "Hosts", "Response"]

_HOMES = {
    "Answer": "answer",
    "Egress": "egress",
    "EgressSettings": "settings",
    "Hosts": "hosts",
    "Response": "response",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
