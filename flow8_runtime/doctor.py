"""What is wrong with an installation, and how to mend it. Each check says one thing; none changes what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import redis

from credentials import check_values, outbox
from flow8_core.egress.tls import make_context
from flow8_core.errors import Flow8Error, StoreUnavailable, ValidationFailed
from flow8_core.store.probe import probe
from flow8_runtime import broker, doctor_host
from flow8_runtime.deployment import LOOPBACK, answers_at
from flow8_runtime.embedded import KEYS_FILE, SALT, SECRET
from flow8_runtime.findings import Finding, Findings
from flow8_runtime.foundation import Foundation
from flow8_runtime.messages import MESSAGE_KEY
from flow8_runtime.owners import Owners
from flow8_runtime.platform import Platform

SKEW_S = 5.0
EXTRAS = {"slack": "slack_sdk", "aws": "boto3", "microsoft": "msal"}  # extra -> the package that it brings


def examine(environ: Mapping[str, str], folder: Path) -> list[Finding]:
    """All findings about the installation that this environment and folder describe, in the order in which one would
    mend them. With settings that cannot be read, those alone."""
    try:
        foundation = Foundation.lay(environ, folder)
    except ValidationFailed as error:
        return [Finding("settings", "failed", f"{path}: {message}.") for path, message in error.problems]
    platform = Platform(foundation)
    try:
        return [*examine_platform(platform), *doctor_host.dotenv(folder)]
    finally:
        platform.close()


def examine_platform(platform: Platform) -> list[Finding]:
    """As `examine`, of an open platform. Where the store is down, what needs it is left out: it is said once."""
    found: list[Finding] = []
    down = False
    for name, check in _CHECKS.items():
        if down and check in _NEED_THE_STORE:
            continue
        try:
            found += check(platform)
        except Flow8Error as error:
            found.append(Finding(name, "failed", error.message))
            down = down or isinstance(error, StoreUnavailable)
        except OSError as error:
            found.append(Finding(name, "failed", f"{error.strerror}: {error.filename}."))
    return found


def _settings(platform: Platform) -> Findings:
    kind = "embedded mode" if platform.settings.embedded else "a shared database"
    yield Finding("settings", "ok", f"They can be read: {kind}.")


def _environment(platform: Platform) -> Findings:
    yield from doctor_host.variables(platform.foundation.environ)


def _files(platform: Platform) -> Findings:
    yield from doctor_host.files(platform.settings.home, platform.settings.store)


def _store(platform: Platform) -> Findings:
    if not _is_there(platform):
        yield Finding("store", "ok", "There is none yet; the first command that needs it makes it.")
        return
    for promise in probe(platform.store):
        message = f"{promise.promise[0].upper()}{promise.promise[1:]}: {promise.seen}."
        yield Finding("store", "ok" if promise.kept else "failed", message)
    skew = abs((platform.store.now() - datetime.now(UTC)).total_seconds())
    if skew > SKEW_S:
        yield Finding("store", "warning", f"Its clock and this machine's differ by {skew:.0f} s; run NTP on both.")


def _keys(platform: Platform) -> Findings:
    if _has_no_keys(platform):
        yield Finding("keys", "ok", "There are none yet; the first command that needs them makes them.")
        return
    ring = platform.keyring
    yield Finding("keys", "ok", f"They open this store (key {ring.primary.kid}, KDF {ring.primary.profile}).")
    if len(ring.keys) > 1:
        yield Finding("keys", "warning", "The key is being changed; `flow8 keys status` tells the next step.")
    if ring.write_unbound:
        yield Finding(
            "keys", "warning", "keys.unbound.write seals in the old form, which can be moved between records."
        )


def _broker(platform: Platform) -> Findings:
    found = broker.find(platform.settings)
    if found is None:
        yield Finding("broker", "ok", "The bundled one comes with the first worker.")
        return
    try:
        with found.flags() as client:
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
    except redis.ResponseError:
        policy = "unknown"  # hosted ones forbid the question
    except redis.RedisError as error:
        yield Finding("broker", "failed", f"It does not answer ({type(error).__name__}); start Redis or mend `broker`.")
        return
    yield Finding("broker", "ok", "It answers.")
    if policy not in ("noeviction", "unknown"):
        yield Finding("broker", "warning", f"It evicts when full (maxmemory-policy {policy}); set noeviction.")
    address = urlsplit(found.url)
    if address.scheme == "redis" and address.hostname not in LOOPBACK:
        yield Finding("broker", "warning", "It is reached without TLS; use rediss:// across a network.")


def _workers(platform: Platform) -> Findings:
    if _is_there(platform) and Owners(platform.store, platform.settings.home).any_alive():
        yield Finding("workers", "ok", "At least one is alive.")
    elif platform.settings.embedded:
        yield Finding(
            "workers", "ok", "None is alive; `flow8 run` starts one for its time, `flow8 worker` one to stay."
        )
    else:
        yield Finding("workers", "warning", "None is alive; start one with `flow8 worker`.")


def _outbox(platform: Platform) -> Findings:
    given_up = outbox.dead(platform.store) if _is_there(platform) else 0
    if given_up:
        message = f"{given_up} events or revocations were given up lately; the audit log names their links."
        yield Finding("outbox", "warning", message)


def _applications(platform: Platform) -> Findings:
    """What services have said of our applications lately."""
    if not platform.settings.oauth2 or not _is_there(platform) or _has_no_keys(platform):
        return
    for service in sorted(platform.settings.oauth2):
        code = platform.applications.refusal(platform.providers.get(service))
        if code is not None:
            mend = f"its links are paused. Verify client_id and client_secret of oauth2.{service}."
            yield Finding(f"oauth2.{service}", "failed", f"The service refuses our application ({code}); {mend}")
    for service, _ in platform.applications.mistrusted(now=platform.store.now()):
        told = "The service condemns so many links at once that none is marked as dead; look at its status page."
        yield Finding(f"oauth2.{service}", "warning", told)


def _oauth2(platform: Platform) -> Findings:
    for service in sorted(platform.settings.oauth2):
        provider = platform.providers.get(service)
        app = provider.registered()
        if app.client_secret is None and app.certificate is None:
            yield Finding(f"oauth2.{service}", "warning", "It has no client_secret; most servers refuse that.")
        else:
            address = app.redirect_uri or f"{platform.settings.public_url.rstrip('/')}/auth/callback/{service}"
            yield Finding(f"oauth2.{service}", "ok", f"Registered there must be {address}")
    if not platform.settings.oauth2:
        yield Finding("oauth2", "warning", "No application is configured; accounts cannot be connected.")


def _modules(platform: Platform) -> Findings:
    yield Finding("modules", "ok", f"{len(platform.catalogue.refs())} can be named by steps.")
    for extra, package in EXTRAS.items():
        if find_spec(package) is None:
            install = f"pip install 'flow8-modules[{extra}]'"
            yield Finding("modules", "warning", f"{package} is missing, and what needs it fails: {install}")


def _callback(platform: Platform) -> Findings:
    address = urlsplit(platform.settings.public_url)
    if address.hostname not in LOOPBACK:
        if address.scheme == "http":
            yield Finding(
                "callback", "warning", "public_url is plain http: codes would travel in the clear; use https."
            )
        return
    port = platform.settings.callback_port
    trouble = doctor_host.cannot_serve(port)
    if trouble is None:
        yield Finding("callback", "ok", f"Port {port} is free; `flow8 link connect` serves it while it waits.")
    elif not _has_no_keys(platform) and answers_at(port, platform):
        yield Finding("callback", "ok", f"`flow8 serve` answers at port {port}.")
    else:
        yield Finding("callback", "failed", f"Port {port} cannot be served ({trouble}); free it, or change public_url.")


def _egress(platform: Platform) -> Findings:
    settings = platform.settings.egress
    make_context(settings.ca_file)
    if settings.ca_file is not None:
        message = f"{settings.ca_file} is trusted beside the public roots: whoever has its key can read all traffic."
        yield Finding("egress", "warning", message)
    open_to = [entry for entry in settings.allow if entry.rpartition(":")[0].strip("[]") not in LOOPBACK]
    if open_to:
        message = f"Credentials may travel over plain http to {', '.join(open_to)}, where a URL says http."
        yield Finding("egress", "warning", message)


def _messages(platform: Platform) -> Findings:
    if platform.settings.broker and not platform.foundation.environ.get(MESSAGE_KEY):
        message = f"{MESSAGE_KEY} is not set: whoever can write to the broker can start steps."
        yield Finding("messages", "warning", message)


def _is_there(platform: Platform) -> bool:
    return doctor_host.is_there(platform.settings.store)


def _has_no_keys(platform: Platform) -> bool:
    """Whether embedded mode would make keys now. Looking must not."""
    settings, environ = platform.settings, platform.foundation.environ
    if not settings.embedded or environ.get(SECRET) or environ.get(SALT) or (settings.home / KEYS_FILE).exists():
        return False
    return not _is_there(platform) or not platform.store.count(check_values.COLLECTION, {})


_CHECKS: Mapping[str, Callable[[Platform], Findings]] = {
    "settings": _settings,
    "environment": _environment,
    "files": _files,
    "store": _store,
    "keys": _keys,
    "broker": _broker,
    "workers": _workers,
    "outbox": _outbox,
    "oauth2": _oauth2,
    "applications": _applications,
    "modules": _modules,
    "callback": _callback,
    "egress": _egress,
    "messages": _messages,
}
_NEED_THE_STORE = (_keys, _workers, _outbox, _applications, _callback)
