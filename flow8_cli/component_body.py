"""From the options of `component add` to the body of a component, without a secret ever being an argument."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from flow8_cli.files import read_text
from flow8_core.errors import ValidationFailed


@dataclass(frozen=True)
class Given:
    """`NAME=VALUE` settings, `NAME`s of secrets to ask for, `NAME=FILE`s of secrets to read."""

    settings: list[str]
    secrets: list[str]
    secret_files: list[str]

    def __bool__(self) -> bool:
        return bool(self.settings or self.secrets or self.secret_files)


def body_of(name: str, kind: str, given: Given) -> dict[str, Any]:
    """The body of `POST /api/v1/admin/components`. Raises `ValidationFailed` for a secret among the settings."""
    from credentials.component_kinds import KINDS, MODELS

    if kind not in MODELS:
        raise ValidationFailed(f"The kind is one of {', '.join(KINDS)}.", path="--kind")
    secrets = MODELS[kind].secrets
    lists = _lists(MODELS[kind].model_json_schema())
    config: dict[str, Any] = {}
    for path, value in _pairs(given.settings, "--set"):
        if path in secrets:
            raise ValidationFailed(
                f"{path} is a secret, and others can read arguments: give --secret {path}.", path="--set"
            )
        _put(config, path, value.split(",") if path in lists else value)
    for path, file in _pairs(given.secret_files, "--secret-file"):
        _check_secret(path, secrets, "--secret-file")
        _put(config, path, read_text(file, path="--secret-file").rstrip("\r\n"))
    for path in given.secrets:
        _check_secret(path, secrets, "--secret")
    for path, value in _asked(given.secrets):
        _put(config, path, value)
    return {"name": name, "kind": kind, "config": config}


def _pairs(given: list[str], option: str) -> Iterator[tuple[str, str]]:
    for pair in given:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise ValidationFailed("It reads NAME=VALUE.", path=option)
        yield name, value


def _check_secret(path: str, secrets: tuple[str, ...], option: str) -> None:
    """The name is not repeated: it may be the secret itself."""
    if path not in secrets:
        known = f"it has {', '.join(secrets)}" if secrets else "it has none"
        raise ValidationFailed(f"This is no secret's name of this kind; {known}.", path=option)


def _asked(names: list[str]) -> Iterator[tuple[str, str]]:
    """From the terminal without an echo; else from stdin, one line each."""
    if sys.stdin.isatty():
        for name in names:
            yield name, typer.prompt(name, hide_input=True, err=True)
        return
    lines = sys.stdin.read().splitlines() if names else []
    if len(lines) != len(names):
        raise ValidationFailed(
            f"stdin holds {len(lines)} lines for {len(names)} secrets: it takes one line each, in their order.",
            path="--secret",
        )
    yield from zip(names, lines, strict=True)


def _put(config: dict[str, Any], path: str, value: Any) -> None:
    *above, name = path.split(".")
    for part in above:
        config = config.setdefault(part, {})
        if not isinstance(config, dict):
            raise ValidationFailed("Two settings contradict each other: one lies within the other.", path="--set")
    if name in config:
        raise ValidationFailed("A setting is given twice.", path="--set")
    config[name] = value


def _lists(schema: dict[str, Any]) -> set[str]:
    """The settings that hold several values."""
    return {name for name, field in schema["properties"].items() if field.get("type") == "array"}
