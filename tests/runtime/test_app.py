"""The Celery app: what its settings promise."""

from __future__ import annotations

import ssl
import time

import pytest
import redis

from flow8_core.errors import StoreUnavailable
from flow8_runtime.app import make_app, publish_answer
from flow8_runtime.queues import drain_queue, step_queue
from flow8_runtime.transport import Transport
from tests.counterparts.redis import RedisServer
from tests.processes import free_port


def test_messages_come_in_through_our_own_check() -> None:
    connection = make_app("redis://127.0.0.1:1/0").connection_for_read()

    assert connection.get_transport_cls() is Transport


def test_a_broker_over_tls_must_prove_who_it_is() -> None:
    connection = make_app("rediss://broker.example:6380/0").connection_for_read()

    assert connection.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}


def test_what_the_broker_url_says_about_tls_counts() -> None:
    connection = make_app("rediss://broker.example:6380/0?ssl_ca_certs=/etc/ca.pem").connection_for_read()

    assert connection.ssl == {"ssl_ca_certs": "/etc/ca.pem"}


@pytest.mark.parametrize("queue", ["default", "reports", "flow8", "a.b:c"])
def test_the_wake_up_of_a_queue_of_steps_leads_back_to_it(queue: str) -> None:
    assert step_queue(drain_queue(queue)) == queue


def test_a_broker_that_is_away_is_one_clear_error_at_once() -> None:
    app = make_app(f"redis://127.0.0.1:{free_port()}/0")

    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="broker"):
        publish_answer(app, "answers", {"n": 1})

    assert time.monotonic() - started < 2


def test_a_connection_that_a_restarted_broker_has_forgotten_costs_no_message(own_redis: RedisServer) -> None:
    app = make_app(own_redis.url)
    publish_answer(app, "answers", {"n": 1})
    own_redis.kill()
    own_redis.start()

    publish_answer(app, "answers", {"n": 2})

    with redis.Redis.from_url(own_redis.url) as client:
        assert client.llen("answers") == 2
        assert client.keys("_kombu*") == []  # a queue of somebody else's is not ours to bind
