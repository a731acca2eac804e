"""The clients that ship, aimed at addresses that nobody may reach: none of them connects."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from credentials.msal_client import MicrosoftClient
from credentials.providers.catalogue import Providers
from credentials.providers.settings import OAuthApp, ServiceSettings
from flow8_core.clock import Deadline
from flow8_core.egress import Egress
from flow8_core.errors import EgressDenied
from flow8_core.secret import Secret
from flow8_modules.integrations.slack.message import slack_message
from flow8_modules.testing import context, link_for
from tests.egress.conftest import answers
from tests.egress.corpora import PRIVATE_ADDRESSES

Connects = list[tuple[int, Any]]
Call = Callable[[Egress, str, Deadline, Path], object]


def post_to_slack(egress: Egress, origin: str, _: Deadline, folder: Path) -> object:
    link = link_for("slack", token="xoxb-not-a-token", base_url=f"{origin}/api/", scopes={"chat:write"})
    ctx = context(folder, egress=egress, link=link)
    return slack_message(slack_message.parse({"channel": "#general", "message": "x"}), ctx)


def refresh_at_microsoft(egress: Egress, origin: str, deadline: Deadline, _: Path) -> object:
    app = OAuthApp(client_id="550e8400-e29b-41d4-a716-446655440000", client_secret="not a secret of anybody")
    provider = Providers({"microsoft": app}, {"microsoft": ServiceSettings(authority=origin)}).get("microsoft")
    client = MicrosoftClient(provider, egress, deadline)
    return client.refresh(refresh_token=Secret("not-a-token"), scopes=["User.Read"], answered=lambda: None)


@cache
def session() -> Any:
    """One for all calls: reading botocore's descriptions takes long."""
    from flow8_modules.integrations.s3.transport import isolated_session

    return isolated_session()


def list_s3(egress: Egress, origin: str, deadline: Deadline, _: Path) -> object:
    from flow8_modules.integrations.s3.transport import S3, Account

    account = Account("us-east-1", origin, Secret("AKIAIOSFODNN7EXAMPLE"), Secret("not-a-key"), None)
    with S3(account, session=session(), egress=egress).calling(deadline) as api:
        return api.list_buckets()


CALLS: dict[str, Call] = {"slack_sdk": post_to_slack, "msal": refresh_at_microsoft, "botocore": list_s3}


@pytest.mark.parametrize("call", CALLS)
def test_no_shipped_client_connects_to_a_private_address(
    egress_to: Callable[..., Egress], call: str, soon: Deadline, connects: Connects, tmp_path: Path
) -> None:
    for address in PRIVATE_ADDRESSES[:: 1 if call != "botocore" else 5]:  # making a client of botocore takes long
        egress = egress_to(resolve=answers(address))
        with pytest.raises(EgressDenied):
            CALLS[call](egress, "https://innocent.example", soon, tmp_path)

    assert connects == []
