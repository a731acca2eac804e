"""Wake-ups are never lost for work that was committed before them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from flow8_core.clock import ManualClock
from flow8_core.errors import StoreUnavailable
from flow8_runtime.app import make_app
from flow8_runtime.broker import Broker
from flow8_runtime.incoming import checked
from flow8_runtime.queues import DRAIN
from flow8_runtime.wakeup import FLAG_LIFE_S, SCRIPT_SHA, Wakeup
from tests.counterparts.redis import RedisServer, make_redis


@pytest.fixture
def flags(redis_url: str) -> Iterator[redis.Redis]:
    with Broker(redis_url).flags() as client:
        yield client


@pytest.fixture
def wakeup(flags: redis.Redis) -> Wakeup:
    return Wakeup(flags)


def messages(flags: redis.Redis, queue: str = "flow8.drain") -> int:
    return int(flags.llen(queue))  # type: ignore[arg-type]


def test_a_burst_of_rings_publishes_one_message(wakeup: Wakeup, flags: redis.Redis) -> None:
    rings = [wakeup.ring() for _ in range(50)]

    assert messages(flags) == 1
    assert rings == [True] + [False] * 49


def test_a_flag_that_nobody_takes_down_falls_by_itself(wakeup: Wakeup, flags: redis.Redis) -> None:
    wakeup.ring()
    wakeup.ring_anyway("reports")

    assert 0 < flags.pttl("flow8:wake:default") <= FLAG_LIFE_S * 1000  # type: ignore[operator]
    assert 0 < flags.pttl("flow8:wake:reports") <= FLAG_LIFE_S * 1000  # type: ignore[operator]


def test_a_ring_after_a_drainer_has_answered_publishes_again(wakeup: Wakeup, flags: redis.Redis) -> None:
    wakeup.ring()

    wakeup.answer()
    wakeup.ring()

    assert messages(flags) == 2


def test_the_sweep_rings_although_the_flag_is_up(wakeup: Wakeup, flags: redis.Redis) -> None:
    wakeup.ring()

    wakeup.ring_anyway()

    assert messages(flags) == 2
    assert wakeup.ring() is False


def test_queues_have_flags_and_lists_of_their_own(wakeup: Wakeup, flags: redis.Redis) -> None:
    wakeup.ring("default")
    wakeup.ring("reports")

    assert (messages(flags), messages(flags, "flow8.drain.reports")) == (1, 1)


@pytest.mark.parametrize("queue", ["default", "reports", 'a"b\\c', "\x1f", "für später"])
def test_a_message_is_one_that_the_worker_reads_and_no_other_like_it(
    wakeup: Wakeup, flags: redis.Redis, queue: str
) -> None:
    wakeup.ring_anyway(queue)
    wakeup.ring_anyway(queue)

    name = "flow8.drain" if queue == "default" else f"flow8.drain.{queue}"
    raw = [json.loads(text) for text in flags.lrange(name, 0, -1)]  # type: ignore[union-attr]
    read = [checked(message, name, frozenset({DRAIN})) for message in raw]
    assert [message["headers"]["task"] for message in read] == [DRAIN, DRAIN]
    assert [message["properties"]["delivery_info"]["routing_key"] for message in raw] == [name, name]
    assert all(message["headers"]["id"] == message["properties"]["correlation_id"] for message in raw)
    assert len({message["headers"]["id"] for message in raw}) == 2
    assert len({message["properties"]["delivery_tag"] for message in raw}) == 2


def test_a_drainer_in_its_loop_rings_at_most_once_in_twenty_milliseconds(flags: redis.Redis) -> None:
    clock = ManualClock()
    wakeup = Wakeup(flags, monotonic=clock.monotonic)
    rings = [wakeup.ring_at_leisure()]
    wakeup.answer()

    clock.advance(0.019)
    rings.append(wakeup.ring_at_leisure())
    clock.advance(0.002)
    rings.append(wakeup.ring_at_leisure())

    assert rings == [True, False, True]


def test_a_drainer_whom_nobody_answers_asks_more_and_more_seldom(flags: redis.Redis) -> None:
    clock = ManualClock()
    wakeup = Wakeup(flags, monotonic=clock.monotonic)

    def rings_in(milliseconds: int) -> list[bool]:
        rings = []
        for _ in range(milliseconds):
            clock.advance(0.001)
            rings.append(wakeup.ring_at_leisure())
        return rings

    flags.config_resetstat()
    assert sum(rings_in(1000)) == 1
    asked = flags.info("commandstats")["cmdstat_set"]["calls"]  # type: ignore[index]
    assert 3 < asked < 8

    wakeup.answer()
    assert sum(rings_in(320)) == 1, "it has not given up"


def test_no_commit_goes_unseen_between_producers_and_a_drainer(wakeup: Wakeup, flags: redis.Redis) -> None:
    """Four producers commit and ring; a drainer answers each message by looking at all that is committed."""
    committed: list[int] = []
    seen: set[int] = set()
    over = threading.Event()

    def produce(start: int) -> None:
        for number in range(start, start + 200):
            committed.append(number)
            wakeup.ring()

    def drain() -> None:
        # looks once a message, and never because time has passed
        while flags.brpop(["flow8.drain"], timeout=0.2) or not over.is_set():
            wakeup.answer()
            seen.update(committed)

    drainer = threading.Thread(target=drain)
    drainer.start()
    producers = [threading.Thread(target=produce, args=(start,)) for start in range(0, 800, 200)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    while messages(flags):  # what is published is answered; nothing else may be needed to see every commit
        pass
    over.set()
    drainer.join()

    assert seen == set(range(800))


def test_a_broker_that_is_away_is_one_clear_error() -> None:
    with Broker("redis://127.0.0.1:1/0").flags() as away:
        wakeup = Wakeup(away)
        for call in (wakeup.ring, wakeup.ring_anyway, wakeup.answer):
            with pytest.raises(StoreUnavailable, match="broker"):
                call()


def test_a_restarted_broker_that_knows_the_script_no_more_is_told_it_again(own_redis: RedisServer) -> None:
    with Broker(own_redis.url).flags() as flags:
        wakeup = Wakeup(flags)
        assert wakeup.ring()
        own_redis.kill()
        own_redis.start()
        wakeup.answer()

        assert flags.script_exists(SCRIPT_SHA) == [False]
        assert wakeup.ring()
        assert flags.script_exists(SCRIPT_SHA) == [True]
        assert messages(flags) == 2


NO_SCRIPTS = "-@scripting"
NO_CHANNELS = "resetchannels"


@pytest.mark.parametrize("rules", [(NO_SCRIPTS,), (NO_CHANNELS,), (NO_SCRIPTS, NO_CHANNELS)], ids=str)
def test_a_user_without_scripts_or_channels_rings_all_the_same(own_redis: RedisServer, rules: tuple[str, ...]) -> None:
    with redis.Redis.from_url(own_redis.url) as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", ">word", "~*", "&*", "+@all", *rules)
    with Broker(own_redis.url.replace("redis://", "redis://limited:word@")).flags() as flags:
        wakeup = Wakeup(flags)

        rings = [wakeup.ring(), wakeup.ring()]
        wakeup.answer()
        rings.append(wakeup.ring())
        wakeup.ring_anyway()

        assert rings == [True, False, True]
        assert messages(flags) == 3
        assert 0 < flags.ttl("flow8:wake:default") <= FLAG_LIFE_S  # type: ignore[operator]


def test_a_broker_that_refuses_one_ring_is_asked_by_script_again(own_redis: RedisServer) -> None:
    with Broker(own_redis.url).flags() as flags:
        wakeup = Wakeup(flags)
        flags.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable):
            wakeup.ring()
        flags.config_set("maxmemory", "0")

        assert wakeup.ring()
        assert flags.script_exists(SCRIPT_SHA) == [True]


def test_databases_of_one_server_hear_nothing_of_each_other(redis_url: str) -> None:
    with Broker(redis_url[:-1] + "3").flags() as third, Broker(redis_url).flags() as first:
        Wakeup(third).ring()

        assert (messages(third), messages(first)) == (1, 0)
        assert Wakeup(first).ring()


def test_what_celery_is_told_to_put_before_its_keys_is_put_there(redis_url: str) -> None:
    app = make_app(redis_url)
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "global_keyprefix": "ours:"}
    with Broker(redis_url).flags() as flags, app.connection_for_read() as connection:
        Wakeup(flags, prefix="ours:").ring()

        taken = connection.default_channel.basic_get("flow8.drain", no_ack=True)

        assert taken is not None
        assert taken.headers["task"] == DRAIN
        assert sorted(flags.keys("*wake*")) == [b"ours:flow8:wake:default"]  # type: ignore[type-var]


def test_a_broker_over_tls_is_rung_and_must_prove_who_it_is(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    proof = authority.issue_cert("127.0.0.1")
    proof.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    server = make_redis(tmp_path, certificate=tmp_path / "server.pem", ca_file=tmp_path / "ca.pem")
    try:
        with Broker(server.url).flags() as flags:
            assert Wakeup(flags).ring()
            assert messages(flags) == 1
        with (
            Broker(server.url.partition("?")[0]).flags() as distrustful,
            pytest.raises(StoreUnavailable) as refused,
        ):
            Wakeup(distrustful).ring()
        assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__)
    finally:
        server.kill()
