"""The application on a socket of its own, with a connection that has begun."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from urllib.parse import parse_qs, urlsplit

import pytest
from bson import ObjectId

from credentials.links import Link
from flow8_api.app import make_app
from flow8_api.server import listen, make_server
from flow8_core.errors import Flow8Error
from flow8_lab.client import Lab
from tests import processes
from tests.core.test_logging import _logging_restored  # noqa: F401  # a fixture
from tests.flows.deployment import Deployment, deploy


@dataclass(frozen=True)
class Answer:
    """What a browser gets."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass
class Site:
    """The served application, and what was heard of its callbacks."""

    deployment: Deployment
    port: int
    heard: list[Link | Flow8Error] = field(default_factory=list)

    def get(self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        """Ask for a path, as it is; redirects are looked at, not followed."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read().decode())
        finally:
            connection.close()

    def begin(self, service: str = "slack") -> str:
        """Begin a connection; the address at the vendor."""
        company, user = self.deployment.company_id, self.deployment.user_id
        return self.deployment.platform.connect.begin(service, company_id=company, user_id=user).authorize_url

    def state(self, service: str = "slack") -> str:
        """The state of a connection that has begun."""
        return parse_qs(urlsplit(self.begin(service)).query)["state"][0]

    def way_back(self, service: str = "slack") -> str:
        """The path and query with which a browser comes back from the vendor after agreeing."""
        back = urlsplit(self.deployment.lab.visit(self.begin(service)))
        return f"{back.path}?{back.query}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, lab_process: Lab) -> Iterator[Site]:
    """The application beside the laboratory."""
    folder = tmp_path_factory.mktemp("site")
    deployment = deploy(folder, lab_process, store=f"sqlite:///{folder / 'flow8.db'}", broker="redis://127.0.0.1:1/0")
    heard: list[Link | Flow8Error] = []
    with listen("127.0.0.1", 0) as listener:
        server = make_server(make_app(deployment.platform, heard=heard.append))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        processes.until(lambda: server.started, "the start of the server")
        yield Site(deployment, listener.getsockname()[1], heard)
        server.should_exit = True
        thread.join(10)
    deployment.close()


@pytest.fixture
def site(served: Site, lab: Lab) -> Site:
    """The application for a new company, with nothing heard yet."""
    served.deployment.company_id, served.deployment.user_id = ObjectId(), ObjectId()
    served.heard.clear()
    return served
