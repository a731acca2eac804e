"""A certificate authority of the laboratory's own, made at each start: nothing outside trusts it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

NAMES = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Certificates:
    """`ca_file` is what clients trust (PEM); `context` is what the servers show."""

    ca_file: Path
    context: ssl.SSLContext


def make(folder: Path) -> Certificates:
    """Make an authority and one certificate for loopback, and write `ca.pem` into `folder`. Keys stay in memory."""
    authority = trustme.CA(organization_name="flow8 laboratory")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    authority.issue_cert(*NAMES).configure_cert(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return Certificates(ca_file, context)
