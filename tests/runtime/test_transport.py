"""The transport goes on counting right when the broker goes away at the worst moment."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kombu import Consumer, Queue
from kombu.message import Message

from flow8_runtime.app import STEPS_QUEUE, make_app
from tests.counterparts.redis import RedisServer
from tests.flows.raw import Queues, envelope


@pytest.mark.parametrize(("word", "options"), [("ack", {}), ("reject", {}), ("reject", {"requeue": True})])
def test_a_message_whose_broker_is_gone_holds_up_no_other(
    own_redis: RedisServer, word: str, options: dict[str, Any]
) -> None:
    taken: list[Message] = []
    with make_app(own_redis.url).connection_for_read() as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        Queues(own_redis.url).put(json.dumps(envelope("flow8.drain", {})))
        queue = Queue(STEPS_QUEUE, routing_key=STEPS_QUEUE)
        with Consumer(channel, queues=[queue], on_message=taken.append, accept=["json"]):
            connection.drain_events(timeout=5)
            full = not channel.qos.can_consume()
            own_redis.kill()

            with pytest.raises(connection.connection_errors):
                getattr(channel.qos, word)(taken[0].delivery_tag, **options)

            assert full
            assert channel.qos.can_consume()
            own_redis.start()
