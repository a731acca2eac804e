"""What went wrong on the way, said in this code base's errors.

Texts name the host and nothing else of a URL (its path or query may hold a secret), and nothing that the server sent.
"""

from __future__ import annotations

import http.client
import socket
import ssl

from flow8_core.clock import Deadline
from flow8_core.egress.reply import BadReply
from flow8_core.egress.request import Request
from flow8_core.errors import ExecutionTimeout, Flow8Error, ProviderUnavailable, VendorBadResponse

NETWORK_ERRORS = (OSError, http.client.HTTPException)


def explain(error: Exception, request: Request, deadline: Deadline, *, sent: bool) -> Flow8Error:
    """The error to raise instead of `error`, always `from None`: the original may quote the server.

    `sent`: a byte of the request may have left. Only then, and only where the method is not a safe one (RFC 9110
    section 9.2.1), is the outcome ambiguous.
    """
    host = request.url.authority
    ambiguous = sent and request.writes
    if deadline.over or (sent and isinstance(error, TimeoutError) and error.errno is None):
        return ExecutionTimeout(f"{host} did not answer in time.", ambiguous=ambiguous)
    if isinstance(error, TimeoutError):
        return ProviderUnavailable(f"{host} could not be reached in time; try again later.", ambiguous=ambiguous)
    if isinstance(error, OSError):
        return ProviderUnavailable(f"{host} {_trouble(error, sent=sent)}", ambiguous=ambiguous)
    reason = str(error) if isinstance(error, BadReply) else "it is cut off"
    return VendorBadResponse(f"The answer of {host} cannot be used: {reason}.", ambiguous=ambiguous)


def _trouble(error: OSError, *, sent: bool) -> str:
    if isinstance(error, socket.gaierror):
        return "has no address; check the name, or try again later."
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"shows a TLS certificate that is not trusted ({error.verify_message})."
    if isinstance(error, ssl.SSLError) and not sent:
        return "refuses the TLS connection."
    if isinstance(error, ConnectionRefusedError):
        return "accepts no connections; try again later."
    return "closed the connection before its answer was complete; try again later."
