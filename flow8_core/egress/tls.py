"""The one TLS context of an egress: certifi's roots, the operator's own, and nothing from the environment."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi

from flow8_core.errors import ValidationFailed


def make_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verifies chain and host name, TLS 1.2 or newer. Costs about 20 ms: make it once.

    Not `ssl.create_default_context`, which reads SSL_CERT_FILE and SSLKEYLOGFILE; nor requests' or urllib3's, for
    REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE. Raises `ValidationFailed` where `ca_file` holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(cafile=certifi.where())
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError):
            raise ValidationFailed(
                "egress.ca_file cannot be read or holds no PEM certificate.", path="egress.ca_file"
            ) from None
    return context
