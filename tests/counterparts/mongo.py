"""A server of MongoDB's wire protocol: the one that `FLOW8_TEST_MONGO` names, else mongo-java-server on loopback.

mongo-java-server keeps everything in memory and is atomic, and goes by indexes with what mongo/Mongo.java adds to it.
It has no TTL expiry, no `explain`, no sessions and no retryable writes: tests of those need a real server and say so
with `real_mongo`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient

from tests import processes
from tests.services import missing

VARIABLE = "FLOW8_TEST_MONGO"
_HERE = Path(__file__).parent / "mongo"
_JARS = Path(__file__).parents[2] / ".counterparts" / "mongo"
_START_WITHIN_S = 60.0
_SHARED = "mongo_server"  # under this name the process that deals the tests out tells the others of its server
_RUNNING = pytest.StashKey[Path]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Where the tests are dealt out to several processes (a hook of pytest-xdist), one server is for all of them."""
    if os.environ.get(VARIABLE) or not _installed():
        return  # each finds what is named, or says what is missing
    running = node.config.stash.get(_RUNNING, None)
    if running is None:
        ends = ExitStack()
        node.config.add_cleanup(ends.close)
        running = node.config.stash[_RUNNING] = ends.enter_context(_started())
    node.workerinput[_SHARED] = str(running)


@pytest.fixture(scope="session")
def mongo_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """`mongodb://host:port` of a server that lives as long as the test session."""
    shared = getattr(request.config, "workerinput", {}).get(_SHARED)
    if shared:
        yield _address(Path(shared))
        return
    with served() as server:
        yield server


@contextmanager
def served() -> Iterator[str]:
    """`mongodb://host:port` of a server that lives as long as the block."""
    named = os.environ.get(VARIABLE)
    if named:
        yield named
        return
    _fetch_jars()
    with _started() as said:
        yield _address(said)


def _address(said: Path) -> str:
    """Where the server is, as soon as it says so."""
    processes.until(lambda: said.read_text().endswith("\n"), "the start of mongo-java-server", timeout=_START_WITHIN_S)
    return said.read_text().removeprefix("READY ").strip()


@contextmanager
def _started() -> Iterator[Path]:
    """A server that runs as long as the block, or this process: it ends with its stdin. The file is what it says."""
    with TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        with said.open("wb") as out:
            server = subprocess.Popen(
                [
                    "java",
                    "-XX:+UseSerialGC",
                    "-XX:TieredStopAtLevel=1",
                    "-Xmx2g",
                    "-cp",
                    f"{_JARS}/*",
                    str(_HERE / "Mongo.java"),
                ],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.DEVNULL,
            )
        with server:
            yield said


@contextmanager
def empty_database(server: str) -> Iterator[str]:
    """`mongodb://host:port/name` of an empty database; a real server's is dropped afterwards."""
    address, _, options = server.partition("?")
    name = f"flow8_test_{ObjectId()}"
    uri = f"{address.rstrip('/')}/{name}" + (f"?{options}" if options else "")
    yield uri
    if os.environ.get(VARIABLE):
        with MongoClient[dict[str, object]](uri) as client:
            client.drop_database(name)


@pytest.fixture
def mongo_uri(mongo_server: str) -> Iterator[str]:
    """The URL of an empty database, for one test."""
    with empty_database(mongo_server) as uri:
        yield uri


@pytest.fixture
def real_mongo(mongo_uri: str) -> str:
    """`mongo_uri`, where `FLOW8_TEST_MONGO` names a server that has all of MongoDB; else the test is skipped."""
    if not os.environ.get(VARIABLE):
        pytest.skip(f"mongo-java-server cannot do this; {VARIABLE} names no real server")
    return mongo_uri


def _installed() -> bool:
    return shutil.which("java") is not None and any(_JARS.glob("mongo-java-server-*.jar"))


def _fetch_jars() -> None:
    if shutil.which("java") is None:
        missing("java is not installed (apt-get install default-jdk-headless maven)")
    if _installed():
        return
    if shutil.which("mvn") is None:
        missing("mongo-java-server is not there and mvn is not installed (apt-get install maven)")
    # Several test processes may come here at once: each fetches into a folder of its own, and the last rename stays.
    own = _JARS.with_name(f"mongo-{os.getpid()}")
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={own}"]
    subprocess.run(["mvn", "-q", "-B", "-f", str(_HERE / "pom.xml"), *goal], check=True, timeout=300)
    if _JARS.exists():
        shutil.rmtree(own)
    else:
        own.rename(_JARS)
