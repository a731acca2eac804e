"""The bell: heard at once, counted once, and never the reason for an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import redis

from flow8_runtime.broker import Broker
from flow8_runtime.listener import Listener
from flow8_runtime.wakeup import Wakeup
from tests.counterparts.redis import RedisServer
from tests.processes import until

LONG_S = 10.0


@pytest.fixture
def flags(redis_url: str) -> Iterator[redis.Redis]:
    with Broker(redis_url).flags() as client:
        yield client


@pytest.fixture
def listener(flags: redis.Redis) -> Iterator[Listener]:
    listener = Listener(flags)

    yield listener

    listener.close()


def test_a_bell_that_rings_while_one_waits_is_heard_at_once(listener: Listener, flags: redis.Redis) -> None:
    assert listener.listen(["default"])
    rung: list[float] = []

    def ring() -> None:
        until(lambda: flags.pubsub_numsub("flow8:bell:0:default")[0][1] == 1, "a listener")
        rung.append(time.monotonic())
        Wakeup(flags).ring()

    ringer = threading.Thread(target=ring)
    ringer.start()
    heard = listener.heard(LONG_S)
    took = time.monotonic() - rung[0]
    ringer.join()

    assert heard
    assert took < LONG_S / 2


def test_the_bell_rings_although_the_flag_is_up(listener: Listener, flags: redis.Redis) -> None:
    wakeup = Wakeup(flags)
    wakeup.ring()
    listener.listen(["default"])

    assert wakeup.ring() is False
    assert listener.heard(LONG_S)


def test_the_sweep_rings_it_too(listener: Listener, flags: redis.Redis) -> None:
    listener.listen(["default"])

    Wakeup(flags).ring_anyway()

    assert listener.heard(LONG_S)


def test_bells_since_the_last_time_count_as_one(listener: Listener, flags: redis.Redis) -> None:
    listener.listen(["default", "reports"])
    for _ in range(20):
        Wakeup(flags).ring("default")
        Wakeup(flags).ring("reports")

    assert listener.heard(LONG_S)
    assert not listener.heard(0)


def test_only_the_queues_listened_to_are_heard(listener: Listener, flags: redis.Redis) -> None:
    listener.listen(["default"])
    listener.listen(["reports"])
    Wakeup(flags).ring("default")

    assert not listener.heard(0.02)

    Wakeup(flags).ring("reports")

    assert listener.heard(LONG_S)


def test_databases_and_prefixes_have_bells_of_their_own(redis_url: str, listener: Listener, flags: redis.Redis) -> None:
    listener.listen(["default"])
    with Broker(redis_url[:-1] + "3").flags() as third:
        ours = Listener(third, prefix="ours:")
        ours.listen(["default"])

        Wakeup(third).ring()
        Wakeup(flags, prefix="ours:").ring()

        assert not listener.heard(0.02)
        assert not ours.heard(0.02)

        Wakeup(third, prefix="ours:").ring_anyway()

        assert ours.heard(LONG_S)
        ours.close()


def test_who_listens_to_nothing_waits_his_time_and_hears_nothing(listener: Listener) -> None:
    started = time.monotonic()

    assert listener.listen([])
    assert not listener.heard(0.05)
    assert time.monotonic() - started >= 0.05


def test_after_close_no_connection_is_left(listener: Listener, flags: redis.Redis) -> None:
    listener.listen(["default"])

    listener.close()

    until(lambda: flags.pubsub_numsub("flow8:bell:0:default")[0][1] == 0, "nobody listening")


def test_a_broker_that_is_away_is_silent_and_one_that_comes_back_is_heard(own_redis: RedisServer) -> None:
    with Broker(own_redis.url).flags() as flags:
        listener = Listener(flags)
        assert listener.listen(["default"])
        own_redis.kill()

        started = time.monotonic()
        assert not listener.heard(0.1)
        assert time.monotonic() - started >= 0.1
        assert not listener.listen(["default", "reports"])
        own_redis.start()

        assert listener.heard(LONG_S)  # made anew: bells may have been missed
        assert not listener.heard(0.02)
        Wakeup(flags).ring("reports")
        assert listener.heard(LONG_S)
        listener.close()


def test_a_listener_that_was_thrown_out_looks_and_listens_again(listener: Listener, flags: redis.Redis) -> None:
    listener.listen(["default"])
    flags.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    assert listener.heard(LONG_S)
    assert not listener.heard(0.02)
    Wakeup(flags).ring()
    assert listener.heard(LONG_S)


def test_a_user_without_channels_hears_nothing_and_no_error(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", ">word", "~*", "resetchannels", "+@all")
    with Broker(own_redis.url.replace("redis://", "redis://limited:word@")).flags() as flags:
        listener = Listener(flags)

        assert not listener.listen(["default"])
        assert not listener.heard(0.05)
        listener.close()
