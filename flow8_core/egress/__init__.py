"""Guarded, pooled HTTP: the one way out, for our own calls and for every vendor SDK.

`Egress.send` for a request and its whole answer; `Egress.open` for an answer on the wire (botocore, streams);
`Egress.session` and `Egress.guard` for requests and requests-oauthlib.
"""

from flow8_core.egress.answer import Answer
from flow8_core.egress.egress import Egress
from flow8_core.egress.hosts import Hosts
from flow8_core.egress.response import Response
from flow8_core.egress.settings import EgressSettings

__all__ = ["Answer", "Egress", "EgressSettings", "Hosts", "Response"]
