"""`Dialer`: from a URL to a connected socket, through the policy."""

from __future__ import annotations

import socket

from flow8_core.clock import Deadline
from flow8_core.egress import addresses
from flow8_core.egress.policy import Policy
from flow8_core.egress.resolver import Resolver, SocketAddress
from flow8_core.egress.url import Url
from flow8_core.errors import EgressDenied


class Dialer:
    """Resolves once, has *every* answer judged, and connects to one of those answers: between the check and the
    connection there is no second lookup that could say something else (DNS rebinding)."""

    def __init__(self, policy: Policy, resolver: Resolver) -> None:
        self._policy = policy
        self._resolver = resolver

    def dial(self, url: Url, deadline: Deadline) -> tuple[socket.socket, bool]:
        """A TCP connection for `url`, and whether the operator's allow-list names the place.

        One mixed answer (a public and a private address) refuses the whole name. Raises `EgressDenied` before any
        packet is sent, `TimeoutError` at the deadline, `OSError` where nobody answers.
        """
        answers = self._resolver.addresses(url, deadline)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        listed = True
        for family, address in answers:
            if family not in (socket.AF_INET, socket.AF_INET6):
                raise EgressDenied(f"{url.authority} has an address that is neither IPv4 nor IPv6.")
            judged = addresses.parse(address[0])
            self._policy.judge(url, judged)
            listed = listed and self._policy.listed(url, judged)
        return _connect_one(answers, deadline), listed


def _connect_one(answers: list[tuple[int, SocketAddress]], deadline: Deadline) -> socket.socket:
    """The first address that accepts; each gets its share of the time that is left."""
    failure: OSError = TimeoutError()
    for tried, (family, address) in enumerate(answers):
        left = deadline.remaining()
        if left <= 0.0:
            raise TimeoutError
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(left / (len(answers) - tried))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
