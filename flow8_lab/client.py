"""The laboratory as a child process, and its control API as methods: for tests, demo and benchmarks."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener


class Lab:
    """A running laboratory, described by the JSON line that it printed.

    `services`, `oauth2`, `regions`, `oidc` and `egress` are as in that line; `ca_file` is a path; `pid` that of the
    process.
    """

    def __init__(self, description: dict[str, Any], *, pid: int) -> None:
        self.description = description
        self.services: dict[str, dict[str, str]] = description["services"]
        self.oauth2: dict[str, dict[str, str]] = description["oauth2"]
        self.regions: dict[str, dict[str, dict[str, str]]] = description["regions"]
        self.oidc: dict[str, dict[str, str]] = description["oidc"]
        self.egress: dict[str, Any] = description["egress"]
        self.control_url: str = description["control_url"]
        self.ca_file: str = description["ca_file"]
        self.pid = pid
        self._opener = build_opener(ProxyHandler({}))

    def control(self, path: str, body: object = None, *, method: str | None = None) -> Any:
        """Call the control API (see flow8_lab.control): GET, or POST where there is a body. Raises ValueError with the
        laboratory's own words if it refuses."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.control_url}{path}", data=data, method=method)  # noqa: S310 (our own loopback)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                raise ValueError(error.read().decode()) from None

    def effects(self, service: str) -> dict[str, Any]:
        """`{count, operations, keys, repeated, items}`: what changed at a vendor."""
        return dict(self.control(f"/effects?{urlencode({'service': service})}"))

    def requests(self, service: str, operation: str | None = None) -> dict[str, Any]:
        """`{count, connections, operations, items}`: what arrived at a vendor."""
        query = {"service": service} | ({"operation": operation} if operation else {})
        return dict(self.control(f"/requests?{urlencode(query)}"))

    def fault(self, service: str, kind: str, operation: str = "*", **details: Any) -> None:
        """Order a fault; `details` are the other fields of `flow8_lab.faults.Fault`."""
        self.control("/faults", {"service": service, "kind": kind, "operation": operation, **details})

    def configure(self, service: str, **settings: Any) -> None:
        """Change settings of a vendor: its own, `Conduct` where it has that, and `Quirks`."""
        self.control("/settings", {"service": service, **settings})

    def grant(self, service: str, **order: Any) -> dict[str, Any]:
        """A grant without the redirect dance (`scopes`, `account`, `expires_in`), as a line for link import."""
        return dict(self.control("/grants", {"service": service, **order}))

    def secrets(self) -> list[str]:
        """Every client secret, code, token and key that it ever gave out."""
        return list(self.control("/secrets")["secrets"])

    def reset(self) -> None:
        """Everything as at the start; client ids and keys stay."""
        self.control("/reset", {})

    def visit(self, url: str, *, decision: Literal["approve", "deny"] | None = None) -> str:
        """Open an authorize URL as a browser would and give the URL that it is sent back to. Where the laboratory asks
        for consent, press a button: `decision`. Raises ValueError with the page if there is no redirect."""
        if decision is None:
            return self._redirected("GET", url, None)
        parts = urlsplit(url)
        form = urlencode({"request": parts.query, "decision": decision})
        return self._redirected("POST", f"{parts.scheme}://{parts.netloc}{parts.path}", form)

    def _redirected(self, method: str, url: str, form: str | None) -> str:
        parts = urlsplit(url)
        context = ssl.create_default_context(cafile=self.ca_file)
        connection = http.client.HTTPSConnection(parts.netloc, context=context, timeout=30)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
            connection.request(method, f"{parts.path}?{parts.query}", body=form, headers=headers)
            answer = connection.getresponse()
            page = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        location = answer.getheader("Location")
        if location is None:
            raise ValueError(f"HTTP {answer.status}: {page}")
        return location


@contextmanager
def start(*options: str) -> Iterator[Lab]:
    """Run `python -m flow8_lab --json` with further command-line options, for as long as the block lasts."""
    command = [sys.executable, "-P", "-m", "flow8_lab", "--json", "--die-with-parent", *options]
    with subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=dict(os.environ), start_new_session=True
    ) as child:
        try:
            line = child.stdout.readline() if child.stdout else b""
            if not line:
                raise RuntimeError(f"The laboratory did not start: exit {child.wait()}; see its stderr.")
            yield Lab(json.loads(line), pid=child.pid)
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
