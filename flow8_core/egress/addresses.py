"""Which IP addresses are public: our own prefix table, because `ipaddress.is_global` is no policy.

On Python 3.11 `is_global` is true for NAT64 of 10.0.0.1 (64:ff9b::a00:1), 6to4 of 127.0.0.1 (2002:7f00:1::), fec0::1,
Azure's 168.63.129.16, Oracle's 192.0.0.192 and for multicast. Sources: IANA's special-purpose registries (RFC 6890 and
updates) for IPv4 and IPv6, and the metadata addresses of Azure, Oracle, Alibaba and AWS.

IPv4 is public unless a row says otherwise. IPv6 is public only inside 2000::/3, minus every form that carries an IPv4
address (6to4, Teredo, ISATAP; NAT64 and v4-mapped lie outside 2000::/3 anyway): no packet of ours is to be unwrapped by
somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Range:
    """A range that is not public. `what` completes "this is ...". `by_name`: an allow-listed *name* may lead there;
    otherwise only the literal address in the allow-list opens it, so that DNS alone never leads to a metadata service.
    """

    network: IPv4Network | IPv6Network
    what: str
    by_name: bool = False


_PRIVATE = "a private address"
_METADATA = "a cloud metadata address"
_LINK_LOCAL = "a link-local address"
_DOCUMENTATION = "a documentation address"
_RESERVED = "a reserved address"
_MULTICAST = "a multicast address"
_EMBEDDED = "an address that carries another one"

# The first row that matches counts: metadata addresses stand before the private ranges that hold them.
_ROWS: tuple[tuple[str, str, bool], ...] = (
    ("100.100.100.200/32", _METADATA, False),  # Alibaba
    ("168.63.129.16/32", _METADATA, False),  # Azure WireServer
    ("192.0.0.192/32", _METADATA, False),  # Oracle
    ("0.0.0.0/8", "this machine", False),
    ("10.0.0.0/8", _PRIVATE, True),
    ("100.64.0.0/10", "a carrier-grade NAT address", True),
    ("127.0.0.0/8", "a loopback address", True),
    ("169.254.0.0/16", _LINK_LOCAL, False),  # holds the metadata services of AWS, Google, Azure and others
    ("172.16.0.0/12", _PRIVATE, True),
    ("192.0.0.0/24", _RESERVED, False),
    ("192.0.2.0/24", _DOCUMENTATION, False),
    ("192.31.196.0/24", _RESERVED, False),  # AS112
    ("192.52.193.0/24", _RESERVED, False),  # AMT
    ("192.88.99.0/24", _EMBEDDED, False),  # 6to4 relays
    ("192.168.0.0/16", _PRIVATE, True),
    ("192.175.48.0/24", _RESERVED, False),  # AS112
    ("198.18.0.0/15", "a benchmarking address", True),
    ("198.51.100.0/24", _DOCUMENTATION, False),
    ("203.0.113.0/24", _DOCUMENTATION, False),
    ("224.0.0.0/4", _MULTICAST, False),
    ("240.0.0.0/4", _RESERVED, False),  # with 255.255.255.255
    ("fd00:ec2::/32", _METADATA, False),  # AWS: fd00:ec2::254, ::23 and the rest of the prefix
    ("fd20:ce::254/128", _METADATA, False),  # Google
    ("::1/128", "a loopback address", True),
    ("::/128", "this machine", False),
    ("::ffff:0:0/96", _EMBEDDED, False),  # IPv4-mapped
    ("::ffff:0:0:0/96", _EMBEDDED, False),  # IPv4-translated
    ("::/96", _EMBEDDED, False),  # IPv4-compatible
    ("64:ff9b::/96", _EMBEDDED, False),  # NAT64
    ("64:ff9b:1::/48", _EMBEDDED, False),  # local NAT64
    ("100::/64", "a discard address", False),
    ("2001::/23", _EMBEDDED, False),  # Teredo, ORCHID, benchmarking and other protocol assignments
    ("2001:db8::/32", _DOCUMENTATION, False),
    ("2002::/16", _EMBEDDED, False),  # 6to4
    ("2620:4f:8000::/48", _RESERVED, False),  # AS112
    ("3ffe::/16", _RESERVED, False),  # the former 6bone
    ("3fff::/20", _DOCUMENTATION, False),
    ("5f00::/16", _RESERVED, False),  # segment routing
    ("fc00::/7", _PRIVATE, True),
    ("fe80::/10", _LINK_LOCAL, False),
    ("fec0::/10", _LINK_LOCAL, False),  # site-local, deprecated and still routed by some
    ("ff00::/8", _MULTICAST, False),
)
_TABLE = tuple(Range(ip_network(prefix), what, by_name) for prefix, what, by_name in _ROWS)
_V4 = tuple(row for row in _TABLE if row.network.version == 4)
_V6 = tuple(row for row in _TABLE if row.network.version == 6)
_PUBLIC_V6 = IPv6Network("2000::/3")
_OTHER_V6 = Range(IPv6Network("::/0"), "not an address of the public internet")
_ISATAP = Range(IPv6Network("::/0"), _EMBEDDED)
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)  # RFC 5214 section 6.1


def parse(text: str) -> Address:
    """The address in `text` as a resolver returns it, with or without a zone. Raises `ValueError`."""
    return ip_address(text.partition("%")[0])


def refused(address: Address) -> Range | None:
    """The range that keeps `address` from being public, or None where it is public."""
    if isinstance(address, IPv4Address):
        return next((row for row in _V4 if address in row.network), None)
    row = next((row for row in _V6 if address in row.network), None)
    if row is None and address not in _PUBLIC_V6:
        return _OTHER_V6
    if row is None and (int(address) >> 32) & 0xFFFFFFFF in _ISATAP_MARKS:
        return _ISATAP
    return row
