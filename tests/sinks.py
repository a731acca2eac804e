"""Looks for secrets in whatever has been written anywhere: as they are, and in the forms that programs make of them."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

import redis

SHORTEST = 8  # characters of what can be told from an ordinary word


def found(secrets: Iterable[str], sinks: Mapping[str, bytes]) -> list[str]:
    """Which secret lies in which sink, in which form; the secrets are shown by their beginnings only."""
    places = []
    for secret in {each for each in secrets if len(each) >= SHORTEST}:
        for form, needle in forms(secret):
            places += [f"{secret[:6]}... in {name} ({form})" for name, text in sinks.items() if needle in text]
    return sorted(set(places))


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """The secret's forms: (name, bytes to look for)."""
    raw = secret.encode()
    yield "raw", raw
    yield "URL-quoted", quote(secret, safe="").encode()
    yield "URL-quoted", quote(secret).encode()
    yield "URL-quoted", quote_plus(secret).encode()
    yield "JSON", json.dumps(secret)[1:-1].encode()
    yield "hex", raw.hex().encode()
    for before in range(3):  # base64 of a text that the secret is a part of, wherever it begins
        whole = base64.b64encode(b"\0" * before + raw)
        core = whole[-(-before * 8 // 6) : len(whole) - 4]
        yield "base64", core
        yield "base64", core.replace(b"+", b"-").replace(b"/", b"_")


def files(folder: Path) -> dict[str, bytes]:
    """Everything under a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def all_commands(url: str) -> Iterator[bytearray]:
    """Every command that a Redis is given while the block lasts, as it shows them itself."""
    place, heard, last = urlsplit(url), bytearray(), b"this is all"
    with socket.create_connection((place.hostname, place.port)) as monitor, redis.Redis.from_url(url) as client:
        monitor.sendall(b"MONITOR\r\n")

        def listen() -> None:
            while last not in heard[-200:] and (text := monitor.recv(65536)):
                heard.extend(text)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield heard
        client.echo(last)
        thread.join(5)
