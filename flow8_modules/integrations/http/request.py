"""`http-request`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO, cast

from flow8_core.egress import Hosts, Response
from flow8_core.egress.url import Url
from flow8_modules import Component, Context, Effect, Field, Link, OneOf, Output, Secret, errors, module
from flow8_modules.integrations.http.answer import Given, decode, masked, masked_json
from flow8_modules.integrations.http.auth import Auth, auth_of, basic, hosts_of
from flow8_modules.integrations.http.body import pairs
from flow8_modules.integrations.http.call import MAX_IN_FILE, MAX_IN_MEMORY, MAX_REDIRECTS, Call
from flow8_modules.integrations.http.headers import SECRET
from flow8_modules.integrations.http.masking import Masking

DEFAULT_TIMEOUT_S = 30.0
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_SETS = frozenset({"PUT", "DELETE"})
_KEY_HEADER = "Idempotency-Key"


class Answer(Output):
    """What the server said."""

    status_code: int = Field(description="HTTP status; an error status does not fail the step.", examples=[200])
    headers: dict[str, str] = Field(
        description="Headers of the answer, names in small letters.", examples=[{"content-type": "application/json"}]
    )
    body: Any = Field(description="Body, as body_type says; null where there is none.", examples=[{"result": "ok"}])
    body_type: Given = Field(description="How the body is given: json, text, base64, file or none.", examples=["json"])
    duration_ms: int = Field(description="Milliseconds that the call took.", examples=[123])
    url: str = Field(
        description="Address that answered, after redirects.", examples=["https://api.example.com/process"]
    )
    file: str | None = Field(description="File that the body was written to.", examples=["/tmp/invoice.pdf"])  # noqa: S108
    size: int = Field(description="Size of the body in bytes.", examples=[15])


def _effect(inputs: Call, component: Mapping[str, Any] | None) -> Effect:
    if inputs.method in _READS:
        return Effect.READ
    if inputs.method in _SETS:
        return Effect.REPEATABLE
    honoured = component is not None and _honours_key(inputs.url, component)
    return Effect.KEYED if honoured else Effect.ONCE


def _honours_key(url: Url, component: Mapping[str, Any] | None) -> bool:
    return bool(component and component.get("honours_idempotency_key") is True and hosts_of(component).covers(url))


@module("http-request", needs=OneOf(Component("request"), Link(None), optional=True), effect=_effect)
def http_request(inputs: Call, ctx: Context) -> Answer:
    """Make one HTTP request and give back whatever the server says.

    Any answer is a result, errors too: look at status_code. A credential comes from a request component or a link, and
    goes to their hosts alone. POST and PATCH happen as often as they are sent, unless the component says that its hosts
    honour an Idempotency-Key.
    """
    try:
        url = inputs.url.with_query(pairs(inputs.query))
        component = ctx.component("request") if ctx.has_component("request") else None
        auth = _auth(inputs, ctx, url)
        headers = _headers(inputs, ctx, auth, url, component)
        return _call(inputs, ctx, auth, url=url, headers=headers, timeout_s=_timeout(inputs, auth, component))
    except errors.EgressDenied as error:
        error.path = error.path or "input_mapping.url"
        raise


def _call(inputs: Call, ctx: Context, auth: Auth, *, url: Url, headers: Mapping[str, str], timeout_s: float) -> Answer:
    if auth.query:
        url = url.with_query(pairs({name: secret.reveal() for name, secret in auth.query.items()}))
    redirects = MAX_REDIRECTS if inputs.redirects is None else inputs.redirects

    def send(most: int, sink: BinaryIO | None = None) -> Response:
        return ctx.egress.send(
            inputs.method,
            url,
            headers=headers,
            body=inputs.payload[0],
            deadline=ctx.deadline.capped(timeout_s),
            credentials=auth.headers or None,
            hosts=auth.hosts,
            redirects=redirects if inputs.method in ("GET", "HEAD") else 0,
            max_bytes=inputs.max_bytes or most,
            sink=sink,
        )

    if inputs.save_as is None:
        return _answer(send(MAX_IN_MEMORY), auth, inputs)
    with ctx.create_file(inputs.save_as, field="save_as") as file:
        sink = Masking(file, auth.secrets)
        answer = send(MAX_IN_FILE, cast("BinaryIO", sink))
        sink.finish()
        if not 200 <= answer.status < 300:  # its body says what went wrong, and is no file
            file.discard()
            return _answer(answer, auth, inputs)
    return _answer(answer, auth, inputs, size=file.size)


def _answer(answer: Response, auth: Auth, inputs: Call, *, size: int | None = None) -> Answer:
    """`size` is that of the file that was written, if one was."""
    body: Any
    given: Given
    secrets = auth.secrets
    body, given = (None, "file") if size is not None else decode(answer, inputs.response, secrets)
    return Answer(
        status_code=answer.status,
        headers={name.lower(): masked(value, secrets) for name, value in answer.headers.items()},
        body=masked_json(body, answer.body, secrets) if given == "json" else masked(body, secrets),
        body_type=given,
        duration_ms=answer.duration_ms,
        url=masked(answer.url, secrets),
        file=inputs.save_as if given == "file" else None,
        size=len(answer.body) if size is None else size,
    )


def _auth(inputs: Call, ctx: Context, url: Url) -> Auth:
    own = _own_credential(inputs)
    auth = auth_of(ctx, url)
    if own and auth.headers.keys() & {"Authorization"}:
        raise errors.ValidationFailed(
            "The step's link or component brings the Authorization header: leave it out here.",
            path="input_mapping.headers",
        )
    if own or any(SECRET.fullmatch(name) for name in inputs.headers):
        ctx.log.warning("a step carries a credential in its inputs; a request component is the place for it")
    if not own:
        return auth
    return Auth(headers={**auth.headers, **own}, query=auth.query, hosts=auth.hosts or Hosts.of(url.authority))


def _own_credential(inputs: Call) -> dict[str, Secret]:
    if inputs.bearer_token is not None:
        return {"Authorization": Secret(f"Bearer {inputs.bearer_token.get_secret_value()}")}
    if inputs.basic_auth is not None:
        pair = f"{inputs.basic_auth.user}:{inputs.basic_auth.password.get_secret_value()}"
        return {"Authorization": basic(pair)}
    return {}


def _headers(inputs: Call, ctx: Context, auth: Auth, url: Url, component: Mapping[str, Any] | None) -> dict[str, str]:
    headers = dict(inputs.headers)
    named = {name.lower(): name for name in headers}
    for brought in auth.headers:
        if brought.lower() in named:
            raise errors.ValidationFailed(
                "The step's link or component brings this header: leave it out here.",
                path=f"input_mapping.headers.{named[brought.lower()]}",
            )
    _, content_type = inputs.payload
    if content_type is not None and "content-type" not in named:
        headers["Content-Type"] = content_type
    if inputs.method not in _READS and _KEY_HEADER.lower() not in named and _honours_key(url, component):
        headers[_KEY_HEADER] = ctx.idempotency_key
    return headers


def _timeout(inputs: Call, auth: Auth, component: Mapping[str, Any] | None) -> float:
    if inputs.timeout is not None:
        return inputs.timeout
    configured = component.get("timeout_seconds") if component is not None and auth.hosts else None
    return float(configured) if isinstance(configured, int | float) and configured > 0 else DEFAULT_TIMEOUT_S
