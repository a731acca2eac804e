"""The hand-written Celery tasks that a durable step is measured against: stock SDKs, a raw find and decrypt, no ledger.

Each does what one step does: read the credential's document, open its envelope, call the vendor. Settings come from
BENCH_* variables; run with `celery -A benchmarks.handwritten worker`.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import ssl
from typing import TYPE_CHECKING, Any

from celery import Celery, chain, signals
from nacl.secret import SecretBox

if TYPE_CHECKING:
    import urllib3

ARGV = ["-m", "celery", "-A", "benchmarks.handwritten", "worker", "--loglevel=WARNING"]
ARGV += ["--without-gossip", "--without-mingle", "--without-heartbeat"]

app = Celery("handwritten", broker=os.environ.get("BENCH_BROKER", "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_ignore_result=True,
    accept_content=["json"],
    worker_prefetch_multiplier=4,
    task_acks_late=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@signals.worker_ready.connect
def say_so(**_: Any) -> None:
    """At INFO Celery would say it, and write two lines for each task besides."""
    print("ready", flush=True)


_connections: dict[int, sqlite3.Connection] = {}


def credential(name: str) -> dict[str, str]:
    """A raw find and decrypt."""
    connection = _connections.get(os.getpid())
    if connection is None:
        connection = _connections[os.getpid()] = sqlite3.connect(os.environ["BENCH_STORE"])
    row = connection.execute("SELECT nonce, ciphertext FROM credentials WHERE name = ?", (name,)).fetchall()[0]
    box = SecretBox(bytes.fromhex(os.environ["BENCH_KEY"]))
    opened: dict[str, str] = json.loads(box.decrypt(base64.b64decode(row[1]), base64.b64decode(row[0])))
    return opened


@app.task(name="bench.slack")
def slack(channel: str, text: str) -> str:
    """Post with the stock slack_sdk."""
    from slack_sdk import WebClient

    token = credential("slack")["token"]
    context = ssl.create_default_context(cafile=os.environ["BENCH_CA"])
    client = WebClient(token=token, base_url=f"{os.environ['BENCH_SECURE']}/api/", ssl=context)
    return str(client.chat_postMessage(channel=channel, text=text)["ts"])


@app.task(name="bench.s3")
def s3(key: str, content: str) -> str:
    """Put with the stock boto3."""
    import boto3

    keys = credential("s3")
    client = boto3.client(
        "s3",
        endpoint_url=os.environ["BENCH_PLAIN"],
        region_name="us-east-1",
        aws_access_key_id=keys["id"],
        aws_secret_access_key=keys["secret"],
    )
    return str(client.put_object(Bucket="bench", Key=key, Body=content.encode())["ETag"])


@app.task(name="bench.http")
def http(path: str, body: dict[str, Any]) -> int:
    """Call with the stock requests."""
    import requests

    token = credential("http")["token"]
    answer = requests.post(
        f"{os.environ['BENCH_SECURE']}{path}",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
        verify=os.environ["BENCH_CA"],
        timeout=30,
    )
    return answer.status_code


@app.task(name="bench.call")
def call(_previous: Any = None, *, path: str = "/call") -> int:
    """The barest task that calls: what the drain rates are measured against."""
    answer: urllib3.BaseHTTPResponse = _pool().request("POST", f"{os.environ['BENCH_PLAIN']}{path}", body=b"{}")
    return answer.status


_pools: dict[int, Any] = {}


def _pool() -> Any:
    import urllib3

    if os.getpid() not in _pools:
        _pools[os.getpid()] = urllib3.PoolManager(maxsize=64)
    return _pools[os.getpid()]


def ten_in_a_row(path: str = "/call", *, queue: str | None = None) -> None:
    """A Celery chain of ten."""
    chain(*(call.s(path=path).set(queue=queue) for _ in range(10))).apply_async(queue=queue)
