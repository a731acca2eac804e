"""The task that a durable step is measured against, for dramatiq: it calls, and keeps nothing.

Run with `dramatiq benchmarks.actors`; settings come from BENCH_* variables.
"""

from __future__ import annotations

import os

import dramatiq
import urllib3
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url=os.environ["BENCH_ACTORS"])
dramatiq.set_broker(broker)
pool = urllib3.PoolManager(maxsize=64)


@dramatiq.actor
def call(path: str) -> None:
    """The barest actor that calls."""
    pool.request("POST", f"{os.environ['BENCH_PLAIN']}{path}", body=b"{}")


def ten_in_a_row(path: str) -> None:
    """A pipeline of ten."""
    alone = {"pipe_ignore": True}
    dramatiq.pipeline([call.message_with_options(args=(path,), **alone) for _ in range(10)]).run()
