"""The Python door: hand in a play, wait for it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from bson import ObjectId

from flow8_core.errors import NotFound, ValidationFailed
from tests.flows.deployment import Deployment

LIGHT = """
import sys
import flow8_runtime
import flow8_runtime.definition
heavy = [name for name in ("celery", "kombu", "redis", "pymongo", "nacl", "requests") if name in sys.modules]
assert not heavy, heavy
assert set(flow8_runtime.__all__) == {"Door", "submit", "submit_many", "wait"}
assert all(callable(getattr(flow8_runtime, name)) for name in flow8_runtime.__all__)
"""

ONE_CALL_EACH = """
import json, sys
import flow8_runtime
play_id = flow8_runtime.submit(json.loads(sys.argv[1]), {"word": "hello"})
print(json.dumps(flow8_runtime.wait(play_id, timeout=20)))
"""


def echo(deployment: Deployment, **more: Any) -> dict[str, Any]:
    """A flow of one step that sends a word and gets it back."""
    url = f"{deployment.lab.services['web']['base_url']}/echo"
    mapping = {"url": url, "method": "POST", "body": {"word": "{{ $prev.args.word }}"}}
    return {"name": "echo", "steps": [{"name": "send", "module_ref": "http-request", "input_mapping": mapping, **more}]}


def python(deployment: Deployment, program: str, *arguments: str) -> str:
    """What a program prints that runs where the deployment's flow8.yaml is."""
    argv = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(
        argv, env=deployment.environ, cwd=deployment.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_room_costs_nothing_until_the_door_is_asked_for(embedded: Deployment) -> None:
    python(embedded, LIGHT)


MANY = """
import json, sys
import flow8_runtime
ids = flow8_runtime.submit_many(json.loads(sys.argv[1]), ({"word": f"w{n}"} for n in range(30)))
print(json.dumps([flow8_runtime.wait(play_id, timeout=30) for play_id in ids]))
"""


def test_many_plays_go_in_by_one_call_and_each_runs_with_its_own_arguments(served: Deployment) -> None:
    plays = json.loads(python(served, MANY, json.dumps(echo(served))))

    assert [play["status"] for play in plays] == ["DONE"] * 30
    words = [play["steps"][0]["output"]["body"]["json"]["word"] for play in plays]
    assert words == [f"w{n}" for n in range(30)]


def test_one_call_submits_and_one_waits_for_embedded_modes_only_user(embedded: Deployment) -> None:
    embedded.start_worker()

    play = json.loads(python(embedded, ONE_CALL_EACH, json.dumps(echo(embedded))))

    assert play["status"] == "DONE"
    assert play["steps"][0]["output"]["body"]["json"] == {"word": "hello"}


def test_a_shared_database_wants_to_know_who_acts(shared: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    from flow8_runtime import submit, wait

    monkeypatch.setenv("FLOW8_CONFIG", shared.environ["FLOW8_CONFIG"])

    with pytest.raises(ValidationFailed) as caught:
        submit(echo(shared), {"word": "hello"})
    play_id = submit(echo(shared), {"word": "hello"}, company_id=shared.company_id, user_id=shared.user_id)
    play = wait(play_id, company_id=shared.company_id, timeout=0)

    assert caught.value.path == "company"
    assert play["status"] == "NEW"
    with pytest.raises(NotFound):
        wait(play_id, company_id=ObjectId(), timeout=0)


def test_waiting_ends_when_its_time_is_over_and_the_play_goes_on(served: Deployment) -> None:
    play_id = served.submit(echo(served, defer_after_ms=700), {"word": "hello"})

    early = served.door.wait(play_id, company_id=served.company_id, timeout=0.2)
    play = served.wait(play_id)

    assert (early["status"], early["seconds"]) == ("NEW", None)
    assert play["status"] == "DONE"


def test_a_second_submit_with_the_same_id_changes_nothing(served: Deployment) -> None:
    who = {"company_id": served.company_id, "user_id": served.user_id}
    play_id = ObjectId()

    first = served.door.submit(echo(served), {"word": "first"}, play_id=play_id, **who)
    second = served.door.submit(echo(served), {"word": "second"}, play_id=play_id, **who)
    play = served.wait(play_id)

    assert first == second == play_id
    assert play["steps"][0]["output"]["body"]["json"] == {"word": "first"}
    assert served.lab.requests("web")["count"] == 1


def test_a_definition_with_faults_is_refused_with_all_of_them_and_written_nowhere(embedded: Deployment) -> None:
    flow = {"name": "bad", "steps": [{"name": "a b", "timeout": -1}, {"name": "c", "module_ref": 5}]}

    with pytest.raises(ValidationFailed) as caught:
        embedded.submit(flow)

    assert len(caught.value.problems) >= 4
    assert embedded.platform.ledger.list(company_id=embedded.company_id) == []
