"""Which flows break when links go: those that name one, and those whose user would have none left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials.kdf import generate
from credentials.link import Granted, Link
from credentials.token_reply import Tokens
from flow8_core.secret import Secret
from flow8_runtime.breakage import Breakage
from flow8_runtime.door import Door
from flow8_runtime.platform import Foundation, Platform
from tests.processes import until

MESSAGE = {"channel": "#general", "message": "hi"}


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    secret, salt = generate()
    environ = {"ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt, "FLOW8_HOME": str(tmp_path)}
    opened = Platform(Foundation.lay(environ, tmp_path))
    yield opened
    opened.close()


COMPANY, ALICE, BOB = ObjectId(), ObjectId(), ObjectId()


def link_of(platform: Platform, user_id: ObjectId, account: str) -> Link:
    granted = Granted(
        tokens=Tokens(Secret("an-access-token"), None, 3600),
        issued_at=platform.store.now(),
        scopes=("chat:write",),
        provider_user_id=account,
    )
    links = platform.links(COMPANY)
    return links.save(granted, provider=platform.providers.get("slack"), user_id=user_id, source="test")


def start(platform: Platform, name: str, *steps: dict[str, Any], company_id: ObjectId = COMPANY) -> None:
    numbered = [{"name": f"step-{number}", "order": number, **step} for number, step in enumerate(steps, 1)]
    Door(platform).submit({"name": name, "steps": numbered}, {}, company_id=company_id, user_id=ALICE)
    begun = platform.store.now()
    until(lambda: platform.store.now() > begun, "the next millisecond: versions are told apart by their time")


def slack(**mapping: str) -> dict[str, Any]:
    return {"module_ref": "slack-message", "input_mapping": {**MESSAGE, **mapping}}


def get(**mapping: str) -> dict[str, Any]:
    return {"module_ref": "http-request", "input_mapping": {"url": "https://api.example.com/", **mapping}}


def breaking(platform: Platform, *links: Link) -> dict[str, list[str]]:
    return {broken.name: list(broken.steps) for broken in Breakage(platform, COMPANY).flows(links)}


def test_steps_that_name_the_link_break_and_others_do_not(platform: Platform) -> None:
    mine, other = link_of(platform, ALICE, "U1"), link_of(platform, ALICE, "U2")
    start(
        platform, "named", slack(link_id=str(mine.id)), get(), get(link_id=str(mine.id)), slack(link_id=str(other.id))
    )
    start(platform, "elsewhere", slack(link_id=str(mine.id)), company_id=ObjectId())

    assert breaking(platform, mine) == {"named": ["step-1", "step-3"]}


def test_a_step_that_takes_any_link_breaks_where_none_is_left_for_its_user(platform: Platform) -> None:
    first, second = link_of(platform, ALICE, "U1"), link_of(platform, ALICE, "U2")
    link_of(platform, BOB, "U3")
    start(platform, "any", slack())

    assert breaking(platform, first) == {}
    assert breaking(platform, first, second) == {"any": ["step-1"]}
    platform.links(COMPANY).share(platform.links(COMPANY).list()[0].id)  # Bob's, the latest
    assert breaking(platform, first, second) == {}


def test_of_a_flows_versions_the_latest_counts(platform: Platform) -> None:
    link = link_of(platform, ALICE, "U1")
    start(platform, "report", slack(link_id=str(link.id)))
    start(platform, "report", get())

    assert breaking(platform, link) == {}


def test_a_flow_that_cannot_be_read_or_whose_module_is_gone_is_none_of_it(platform: Platform) -> None:
    link = link_of(platform, ALICE, "U1")
    start(platform, "fine", slack(link_id=str(link.id)))
    now = platform.store.now()
    for name, text in (
        ("broken", "{"),
        ("gone", '{"name":"gone","steps":[{"name":"a","module_ref":"no-such","order":1}]}'),
    ):
        row = {"_id": f"{COMPANY}:{name}", "company_id": COMPANY, "name": name, "text": text, "created_at": now}
        platform.store.insert("flows", row)

    assert breaking(platform, link) == {"fine": ["step-1"]}
