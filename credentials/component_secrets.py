"""The secrets within a component's config: sealed on the way in, opened for a step, left out of everything shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bson import ObjectId

from credentials.component_kinds import MODELS
from credentials.vault import Place, Vault
from flow8_core.secret import Secret
from flow8_core.store import Document

Config = Mapping[str, Any]


class Sealer:
    """Seals and opens configs of one company's components, each secret at the place `config.<path>` of its document."""

    def __init__(self, vault: Vault, collection: str, company_id: ObjectId) -> None:
        self._vault = vault
        self._collection = collection
        self._company_id = company_id

    def seal(self, document_id: ObjectId, values: Config) -> dict[str, Any]:
        """The config as it is stored: each `Secret` in it becomes an envelope."""
        return {name: self._sealed(document_id, name, value) for name, value in values.items()}

    def _sealed(self, document_id: ObjectId, path: str, value: Any) -> Any:
        if isinstance(value, Secret):
            return self._vault.seal(self._place(document_id, path), value)
        if isinstance(value, Mapping):
            return {name: self._sealed(document_id, f"{path}.{name}", item) for name, item in value.items()}
        return value

    def open(self, row: Document, *, without: Config | None = None) -> dict[str, Any]:
        """The config with `Secret` values. What `without` has as well is left out, so that a secret which no longer
        opens can be replaced. Raises `EnvelopeRejected`."""
        model = MODELS.get(row["kind"])
        return self._opened(row["_id"], row["config"], "", model.secrets if model else (), without)

    def _opened(
        self, document_id: ObjectId, config: Config, base: str, secrets: tuple[str, ...], without: Config | None
    ) -> dict[str, Any]:
        opened: dict[str, Any] = {}
        for name, value in config.items():
            path = f"{base}{name}"
            secret = path in secrets
            below = None
            if without is not None and name in without:
                below = without[name]
                if secret or not isinstance(below, Mapping):
                    continue
            if not secret and not isinstance(value, dict):  # which is what a store gives where there is more below
                opened[name] = value
            elif secret or is_envelope(value):
                opened[name] = self._vault.open(self._place(document_id, path), value)
            else:
                opened[name] = self._opened(document_id, value, f"{path}.", secrets, below)
        return opened

    def _place(self, document_id: ObjectId, path: str) -> Place:
        return Place(self._collection, document_id, self._company_id, f"config.{path}")


def is_envelope(value: object) -> bool:
    """Whether this looks like a sealed field; opening it tells whether it is one."""
    return isinstance(value, Mapping) and "encrypted" in value


def merged(stored: Config, changes: Config) -> dict[str, Any]:
    """The config after the changes: `None` takes a field out; a part of the same `type` is merged, others replaced."""
    result = dict(stored)
    for name, value in changes.items():
        before = result.get(name)
        if value is None:
            result.pop(name, None)
        elif (
            isinstance(value, Mapping)
            and isinstance(before, Mapping)
            and value.get("type") in (None, before.get("type"))
        ):
            result[name] = merged(before, value)
        else:
            result[name] = value
    return result


def public(kind: str, config: Config) -> dict[str, Any]:
    """What may be shown: the fields that the kind knows, without its secrets. Of what another program has put there,
    nothing."""
    model = MODELS.get(kind)
    if model is None:
        return {}
    return _public({name: value for name, value in config.items() if name in model.model_fields}, "", model.secrets)


def _public(config: Config, base: str, secrets: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: _public(value, f"{base}{name}.", secrets) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if f"{base}{name}" not in secrets and not is_envelope(value)
    }


def leaves(config: Config, base: str = "") -> Iterator[tuple[str, Any]]:
    """All fields as (dotted path, value); an envelope is one value."""
    for name, value in config.items():
        if isinstance(value, Mapping) and not is_envelope(value):
            yield from leaves(value, f"{base}{name}.")
        else:
            yield f"{base}{name}", value


def holds(config: object, path: str) -> bool:
    """Whether there is something at the dotted path."""
    for name in path.split("."):
        if not isinstance(config, Mapping) or config.get(name) is None:
            return False
        config = config[name]
    return True
