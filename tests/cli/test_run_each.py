"""`flow8 run --each`: a play for each line, whatever the lines are and however often it is run."""

from __future__ import annotations

import io
import json
import subprocess
from typing import Any

import pytest

from flow8_cli import lines
from tests.cli.kit import COMMAND, Home
from tests.flows.deployment import Deployment
from tests.processes import until


def flow_of(*steps: dict[str, Any], name: str = "test") -> str:
    return json.dumps({"name": name, "steps": list(steps)})


FETCH = {"name": "fetch", "module_ref": "http-request", "input_mapping": {"url": "{{ $prev.args.url }}"}}
BAD = '{"n": 1}\n\n{"n": 2, "n": 3}\n[1]\n{"x":\n{"ok": "\\u0000"}\n{"n": 7}'


def plays(home: Home) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = home.flow8("plays", "--json", "--limit", "500").document["plays"]
    return listed


# ---- what is refused


def test_a_file_is_checked_as_a_whole_before_anything_is_written(home: Home) -> None:
    flow, inputs = home.write("flow.json", flow_of(FETCH)), home.write("bad.jsonl", BAD)

    done = home.flow8("run", flow, "--each", inputs, "--json")

    assert done.code == 2
    faults = done.document["error"]["problems"]
    assert [fault["path"] for fault in faults] == ["line 3, n", "line 4", "line 5", "line 6, ok"]
    assert plays(home) == []


def test_of_a_pipe_bad_lines_are_told_and_left_out_and_the_others_go_in(home: Home) -> None:
    flow = home.write("flow.json", flow_of(FETCH))

    done = piped(home, BAD, "run", flow, "--each", "-", "--detach", "--json")

    assert done.returncode == 1
    handed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["line"] for each in handed] == [1, 7]
    assert {each["play_id"] for each in handed} == {play["play_id"] for play in plays(home)}
    assert [line for line in done.stderr.splitlines() if line.startswith("refused")] != []
    for place in ("line 3, n", "line 4", "line 5", "line 6, ok"):
        assert place in done.stderr


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("-", "--each", "-"), "--each"),
        (("flow.json", "--each", "in.jsonl", "--input", "a.json"), "--input"),
        (("flow.json", "--each", "in.jsonl", "--file", "a=a.json"), "--file"),
        (("flow.json", "--batch", "b"), "--batch"),
        (("flow.json", "--each", "in.jsonl", "--batch", ""), "--batch"),
        (("flow.json", "--each", "in.jsonl", "--batch", "a\nb"), "--batch"),
        (("flow.json", "--each", "nowhere.jsonl"), "--each"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_told(home: Home, arguments: tuple[str, ...], path: str) -> None:
    for name, content in (("flow.json", flow_of(FETCH)), ("in.jsonl", "{}"), ("a.json", "{}")):
        home.write(name, content)

    done = home.flow8("run", *arguments, "--json")

    assert (done.code, done.document["error"]["path"]) == (2, path)


# ---- once and no more


def test_the_same_batch_runs_no_line_twice_and_another_one_does(home: Home) -> None:
    flow = home.write("flow.json", flow_of(FETCH))
    inputs = home.write("in.jsonl", "".join(json.dumps({"n": n}) + "\n" for n in range(1200)))

    first = home.flow8("run", flow, "--each", inputs, "--batch", "b1", "--detach")
    again = home.flow8("run", flow, "--each", inputs, "--batch", "b1", "--detach")
    changed = home.write("in.jsonl", (home.folder / "in.jsonl").read_text().replace('{"n": 7}', '{"n": "seven"}'))
    third = home.flow8("run", flow, "--each", changed, "--batch", "b1", "--detach")
    unnamed = home.flow8("run", flow, "--each", inputs, "--detach")

    ids = first.stdout.split()
    assert (first.code, len(ids), len(set(ids))) == (0, 1200, 1200)
    assert again.stdout == first.stdout
    assert [number for number, play_id in enumerate(third.stdout.split()) if play_id != ids[number]] == [7]
    assert not set(unnamed.stdout.split()) & set(ids)


def test_an_empty_file_is_a_batch_of_none(home: Home) -> None:
    flow, inputs = home.write("flow.json", flow_of(FETCH)), home.write("in.jsonl", "\n \n")

    done = home.flow8("run", flow, "--each", inputs, "--detach")

    assert (done.code, done.stdout) == (0, "")


# ---- waited for


def test_a_batch_is_waited_for_and_told_in_one_document(office: Home, deployment: Deployment) -> None:
    deployment.start_worker()
    web = deployment.lab.services["web"]["base_url"]
    flow = office.write("flow.json", flow_of(FETCH))
    good = [{"url": f"{web}/invoices/00{n}"} for n in range(1, 4)]
    bad = [{"url": "http://127.0.0.1:1/closed"}, {}]
    inputs = office.write("in.jsonl", "\n".join(json.dumps(line) for line in [*good, *bad]))

    done = office.flow8("run", flow, "--each", inputs, "--batch", "b", "--json")
    again = office.flow8("run", flow, "--each", inputs, "--batch", "b")

    assert done.code == again.code == 1, done.said
    told = done.document
    counts = {name: told[name] for name in ("batch", "lines", "new", "done", "failed", "running", "refused")}
    assert counts == {"batch": "b", "lines": 5, "new": 5, "done": 3, "failed": 2, "running": 0, "refused": 0}
    assert sorted(failure["line"] for failure in told["failures"]) == [4, 5]
    assert {failure["step"] for failure in told["failures"]} == {"fetch"}
    assert {failure["error"]["code"] for failure in told["failures"]} == {"egress_denied", "validation_error"}
    assert deployment.lab.requests("web")["count"] == 3
    assert "egress_denied" in again.stdout


def test_lines_of_a_slow_pipe_run_while_it_stays_open(office: Home, deployment: Deployment) -> None:
    deployment.start_worker()
    web = deployment.lab.services["web"]["base_url"]
    flow = office.write("flow.json", flow_of(FETCH))
    line = json.dumps({"url": f"{web}/invoices/001"}).encode() + b"\n"
    process = subprocess.Popen(
        [*COMMAND, "run", flow, "--each", "-", "--json"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=office.environ, cwd=office.folder,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()

    until(lambda: deployment.lab.requests("web")["count"] == 1, "the first line's call")
    process.stdin.write(line)
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert json.loads(out)["done"] == 2


def test_plays_that_do_not_end_are_left_to_workers_and_told(office: Home, deployment: Deployment) -> None:
    deployment.start_worker()
    later = {**FETCH, "defer_after_ms": 600_000}
    flow, inputs = office.write("flow.json", flow_of(later)), office.write("in.jsonl", '{"url": "x"}\n')

    done = office.flow8("run", flow, "--each", inputs, "--json", "--timeout", "0.3")

    assert (done.code, done.document["running"]) == (1, 1)


# ---- lines


class Dripping(io.RawIOBase):
    """A pipe that gives so much at a time."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    def read1(self, _: int = -1) -> bytes:
        return self._parts.pop(0) if self._parts else b""


def test_lines_come_out_as_they_were_however_they_are_cut() -> None:
    text = b'{"a": 1}\r\n\n{"b": "\xc3\xa4"}\n{"c": 3}'
    for size in range(1, len(text) + 1):
        parts = [text[start : start + size] for start in range(0, len(text), size)]

        found = [line for chunk in lines.chunks(Dripping(parts), most=2) for line in chunk]  # type: ignore[arg-type]

        assert [(line.number, line.value) for line in found] == [(1, {"a": 1}), (3, {"b": "ä"}), (4, {"c": 3})]


def test_a_line_without_end_costs_no_memory_and_those_behind_it_are_read() -> None:
    parts = [b'{"a": "', *([b"x" * lines.BLOCK] * (lines.LONGEST // lines.BLOCK + 5)), b'"}\n{"b": 2}\n']

    found = [line for chunk in lines.chunks(Dripping(parts), most=10) for line in chunk]  # type: ignore[arg-type]

    assert [(line.number, bool(line.problems)) for line in found] == [(1, True), (2, False)]


def piped(home: Home, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a process that reads a pipe."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=text,
        env=home.environ,
        cwd=home.folder,
        capture_output=True,
        text=True,
        timeout=90,
    )
