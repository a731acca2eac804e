"""The laboratory as a process: how it starts, what it prints, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from flow8_lab.client import Lab, start
from tests.counterparts.lab import Lab as SharedLab
from tests.processes import alive, until

COMMAND = [sys.executable, "-m", "flow8_lab", "--json"]
OURS = ("flow8_core", "credentials", "flow8_modules", "flow8_runtime", "flow8_api", "flow8_cli", "worker")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_it_prints_one_line_and_then_every_port_answers() -> None:
    with start("--s3", "off") as lab:
        health = lab.control("/health")
        with pytest.raises(ValueError, match="HTTP 400"):
            lab.visit(f"{lab.services['slack']['authorize_url']}?client_id=1")

    assert health["status"] == "ok"


def test_the_line_holds_sections_for_the_configuration(lab: SharedLab) -> None:
    assert set(lab.services["slack"]) == {"base_url", "authorize_url", "token_url", "revoke_url"}
    assert set(lab.services["microsoft"]) == {"authority", "base_url"}
    assert set(lab.oauth2) == {"slack", "microsoft", "google", "clio", "quickbooks", "bexio"}
    assert set(lab.egress) == {"allow", "ca_file"}
    elsewhere = [urls for regions in lab.regions.values() for urls in regions.values()]
    hosts = {
        url.partition("://")[2].partition("/")[0]
        for urls in (*lab.services.values(), *elsewhere)
        for url in urls.values()
        if "://" in url  # a random secret may well hold two slashes
    }
    assert set(lab.egress["allow"]) == hosts


def test_it_imports_nothing_of_ours() -> None:
    program = (
        "import flow8_lab.server, flow8_lab.client, flow8_lab.s3_server, sys;"
        f"print([name for name in sys.modules if name.partition('.')[0] in {OURS}])"
    )

    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_all_that_it_made(number: signal.Signals) -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        described = json.loads(process.stdout.readline())
        (child,) = children_of(process.pid)

        process.send_signal(number)

        assert process.wait(10) == 0
    assert not alive(child)
    assert not Path(described["ca_file"]).parent.exists()


def test_its_s3_child_does_not_outlive_a_kill(tmp_path: Path) -> None:
    env = os.environ | {"TMPDIR": str(tmp_path)}  # whoever is killed leaves a folder behind
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (child,) = children_of(process.pid)

        process.kill()

        until(lambda: not alive(child), "the end of the S3 child")


def test_it_dies_with_its_parent() -> None:
    program = "import subprocess, sys, time; p = subprocess.Popen(sys.argv[1:]); time.sleep(600)"
    command = [sys.executable, "-c", program, *COMMAND, "--die-with-parent", "--s3", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (lab,) = children_of(parent.pid)

        parent.kill()

        until(lambda: not alive(lab), "the end of the laboratory")


def test_s3_starts_with_its_first_connection() -> None:
    with start("--s3", "on-demand") as lab:
        assert children_of(lab.pid) == []
        assert lab.effects("s3")["count"] == 0

        with build_opener(ProxyHandler({})).open(
            f"{lab.services['s3']['endpoint']}/.lab/effects", timeout=20
        ) as answer:
            assert json.load(answer)["count"] == 0

        assert len(children_of(lab.pid)) == 1


def test_ports_may_be_chosen() -> None:
    with start("--s3", "off") as other:
        taken = int(other.control_url.rpartition(":")[2])
        command = [*COMMAND, "--s3", "off", "--port-base", str(taken)]

        refused = subprocess.run(command, capture_output=True, text=True, timeout=20)

    assert "Address already in use" in refused.stderr
    assert refused.returncode == 1


def test_a_laboratory_that_cannot_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="did not start: exit 2"), start("--no-such-option"):
        pass


def test_two_laboratories_stand_side_by_side(lab: Lab) -> None:
    with start("--s3", "off") as other:
        assert other.services["slack"]["base_url"] != lab.services["slack"]["base_url"]
        assert other.oauth2["slack"] != lab.oauth2["slack"]


def test_it_is_there_within_a_second(tmp_path: Path) -> None:
    def cpu_seconds() -> float:
        began = os.times()
        with start("--s3", "off"):
            pass
        ended = os.times()
        return ended.children_user + ended.children_system - began.children_user - began.children_system

    began = time.monotonic()
    spent = cpu_seconds()

    # CPU time, because the wall clock measures whatever else this machine does.
    assert spent < 1.0, f"{spent:.2f} s of CPU in {time.monotonic() - began:.2f} s"
