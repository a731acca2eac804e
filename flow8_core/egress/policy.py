"""`Policy`: which resolved address may be reached for which URL.

Judged once for each connection, on the very address that is connected to. What DESIGN.md leaves open is decided here:

- Ports on public addresses: 80, 443 and everything from 1024 up, because APIs on 8443 or 3000 are usual; except the
  ports in `NOT_WEB`, where a database, a mail server or a cache would take an HTTP body for commands. Ports below 1024
  other than 80 and 443 belong to other protocols and need an allow-list entry.
- An allow-list entry by *name* opens what the name resolves to as long as that is an ordinary private address; link-
  local, metadata, multicast and reserved addresses open only when they are listed themselves.
- The worker's own public addresses are private: a service bound to 0.0.0.0 expects its firewall to be in the way.
"""

from __future__ import annotations

import socket
from ipaddress import IPv6Address
from typing import Final

from flow8_core.egress import addresses
from flow8_core.egress.addresses import Address
from flow8_core.egress.settings import EgressSettings, parse_place
from flow8_core.egress.url import Url
from flow8_core.errors import EgressDenied

# Well-known ports from 1024 up that do not speak HTTP: https://fetch.spec.whatwg.org/#port-blocking, and data stores.
NOT_WEB: Final = frozenset(
    (
        *(1080, 1433, 1434, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 2380, 2628, 3128, 3306, 3389, 3659, 4045),
        *(4190, 4369, 5060, 5061, 5432, 5671, 5672, 5900, 6000, 6379, 6380, 6566, 6665, 6666, 6667, 6668, 6669, 6679),
        *(6697, 7000, 7001, 9042, 9092, 9200, 9300, 10080, 10250, 11211, 26379, 27017, 27018, 27019),
    )
)
_WEB: Final = frozenset((80, 443))


class Policy:
    """The rules of one process, made from its settings."""

    def __init__(self, settings: EgressSettings) -> None:
        self._places = frozenset(map(parse_place, settings.allow))

    def listed(self, url: Url, address: Address) -> bool:
        """Whether the operator's allow-list names this place, by the URL's host or by the resolved address."""
        return (url.host, url.port) in self._places or (str(address), url.port) in self._places

    def judge(self, url: Url, address: Address) -> None:
        """Raises `EgressDenied` unless `address` may be connected to for `url`. Costs microseconds and no packet."""
        if (str(address), url.port) in self._places:
            return
        by_name = (url.host, url.port) in self._places
        if not (by_name or is_web_port(url.port)):
            raise EgressDenied(
                f"Port {url.port} may not be called. Use 80, 443 or a web port above 1023, "
                f"or ask the operator to add {url.authority} to egress.allow."
            )
        row = addresses.refused(address)
        if row is None and not by_name and is_own(address):
            raise _private(url, "this machine")
        if row is not None and not (by_name and row.by_name):
            raise _private(url, row.what)


def is_web_port(port: int) -> bool:
    """Whether any public host may be called on `port`."""
    return port in _WEB or (port >= 1024 and port not in NOT_WEB)


def is_own(address: Address) -> bool:
    """Whether `address` is one of this machine's own. Sends nothing: a connected UDP socket only chooses a source, and
    for an own address the kernel chooses that address itself."""
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == str(address))


def _private(url: Url, what: str) -> EgressDenied:
    return EgressDenied(
        f"{url.authority} is {what}, which steps may not reach. "
        f"If they should, the operator adds {url.host}:{url.port} to egress.allow."
    )
