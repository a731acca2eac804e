"""httpbin: an HTTP server that is not ours, for what the laboratory may have misunderstood as we did."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import processes
from tests.services import missing

PROGRAM = """
import sys
from pathlib import Path
from httpbin import app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, app, threaded=True)
Path(sys.argv[1]).write_text(str(server.port))
server.serve_forever()
"""


@pytest.fixture(scope="session")
def httpbin(session_tmp: Path) -> Iterator[str]:
    """Its URL."""
    if find_spec("httpbin") is None:
        missing("httpbin is not installed")
    port = session_tmp / "httpbin.port"
    process = processes.spawn([sys.executable, "-c", PROGRAM, port], output=session_tmp / "httpbin.log")
    processes.until(lambda: _is_up(process, port), "a port of httpbin")
    yield f"http://127.0.0.1:{port.read_text()}"
    processes.stop(process)


def _is_up(process: subprocess.Popen[bytes], port: Path) -> bool:
    assert process.poll() is None, "httpbin ended; see httpbin.log in the session's folder"
    return port.exists() and port.read_text() != ""
