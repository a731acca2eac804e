"""A company's components: configurations with API keys, which go in and are never shown again.

Each secret of a config is sealed at its own place. What leaves is a summary without them, or, for the step about to
run, the config with `Secret` values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from bson import ObjectId
from bson.errors import InvalidId

from credentials import component_bodies as bodies
from credentials.audit import Audit, Origin
from credentials.component_defaults import Defaults
from credentials.component_secrets import Sealer, public
from credentials.vault import Vault
from flow8_core.errors import AccessDenied, Conflict, Flow8Error, NotFound, ValidationFailed
from flow8_core.store import Document, DuplicateKey, Index, Store

COLLECTION = "component_configs"
INDEXES = (
    Index((("company_id", 1), ("name", 1)), unique=True),
    Index((("company_id", 1), ("kind", 1), ("is_default", -1))),
)

_ENOUGH_TO_NAME = 5


class Component(NamedTuple):
    """A component ready for use; `config` holds `Secret` values."""

    id: str
    name: str
    kind: str
    config: Mapping[str, Any]


Shown = dict[str, Any]
Shows = list[Shown]


class Components:
    """The components of one company, on behalf of one user. A `reference` is a component's id or its name."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        company_id: ObjectId,
        *,
        user_id: ObjectId | None = None,
        origin: Origin = Origin(),  # noqa: B008  frozen
    ) -> None:
        self._store = store
        self._company_id = company_id
        self._user_id = user_id
        self._sealer = Sealer(vault, COLLECTION, company_id)
        self._vault = vault
        self._origin = origin

    def add(self, body: Mapping[str, Any]) -> Shown:
        """Store a component: `{name, kind, config, is_default?}`, the body of `POST /api/v1/admin/components`.

        Gives `{id, name, kind, config_summary, is_default, warnings}`. Raises `ValidationFailed` listing all faults,
        and `Conflict` for a name that is taken.
        """
        wanted = bodies.parse_new(body)
        warnings = bodies.warnings(wanted.config)
        self._refuse_taken(wanted.name)
        document = self._document(wanted)
        self._recorded("component_created", document, {}, _state(document), lambda: self._insert(document))
        shown = self.set_default(str(document["_id"])) if wanted.is_default else _describe(document, is_default=False)
        return {**shown, "warnings": warnings}

    def list(self, kind: str | None = None) -> Shows:
        """All components, or those of a kind, by name: `{id, name, kind, config_summary, is_default}` each."""
        rows = self._store.find(COLLECTION, self._mine({"kind": {"$eq": kind}} if kind else {}), sort=[("name", 1)])
        return [_describe(row, is_default=self._defaults.is_default(row, rows)) for row in rows]

    def get(self, reference: str) -> Shown:
        """One component, as `list` shows it. Raises `NotFound`."""
        row = self._find(reference)
        marked = self._defaults.marked(row["kind"])
        return _describe(row, is_default=self._defaults.is_default(row, marked))

    def update(self, reference: str, body: Mapping[str, Any]) -> Shown:
        """Change `{name?, config?}`; of `config` only what is named, `null` takes a field out. Secrets that are not
        sent stay, unless the place that they go to changes: then they have to be sent again.

        Gives what `add` gives. Raises `NotFound`, `ValidationFailed`, and `Conflict` for a taken name or a change at
        the same time.
        """
        row = self._find(reference)
        wanted = bodies.parse_change(body, row, self._sealer)
        warnings = bodies.warnings(wanted.config)
        if wanted.name != row["name"]:
            self._refuse_taken(wanted.name)
        sealed = self._sealer.seal(row["_id"], wanted.config.values())
        changed = {"name": wanted.name, "config": sealed, "updated_at": self._store.now()}
        after = {**_state({**row, **changed}), "changed": bodies.changed_fields(row, changed, body)}
        self._recorded("component_updated", row, _state(row), after, lambda: self._write(row, changed))
        return {**self.get(str(row["_id"])), "warnings": warnings}

    def remove(self, reference: str) -> None:
        """Delete a component; steps that name it get `access_denied` from now on. Raises `NotFound`."""
        row = self._find(reference)
        self._recorded("component_deleted", row, _state(row), {}, lambda: self._delete(row))

    def set_default(self, reference: str) -> Shown:
        """Make it the one that steps of its kind use when they name none. Raises `NotFound`."""
        row = self._find(reference)
        previous = self._defaults.current(row["kind"])
        before = {"kind": row["kind"], "default": previous["name"] if previous else None}
        after = {"kind": row["kind"], "default": row["name"]}
        self._recorded("component_default_changed", row, before, after, lambda: self._switch(row))
        return self.get(str(row["_id"]))

    def resolve(
        self,
        kind: str,
        *,
        id: str | None = None,  # noqa: A002
        provider: str | None = None,
        row: Document | None = None,
    ) -> Component:
        """The component that a step gets, in one read: the one that it names (by id or name), else the company's
        default of the kind, else the only one there is. `row` is the named one's document, where it was just read.

        Raises `AccessDenied` where there is none (and nobody is told whether another company has it), `Conflict` where
        several could be meant, `ValidationFailed` where the named one is of another kind, `EnvelopeRejected` where a
        secret does not open.
        """
        row = self._named(kind, id, provider, row) if id is not None else self._only(kind, provider)
        return Component(str(row["_id"]), row["name"], row["kind"], self._sealer.open(row))

    def _named(self, kind: str, reference: str, provider: str | None, row: Document | None) -> Document:
        row = row or self._look_up(reference)
        path = f"component_config_ids.{kind}"
        if row is None:
            message = f"The {kind} component that the step names is not there; `flow8 component list` shows which are."
            raise AccessDenied(message, path=path)
        found = row["config"].get("provider")
        if row["kind"] != kind or (provider and found != provider):
            have, want = _wanted(row["kind"], found), _wanted(kind, provider)
            raise ValidationFailed(f"{row['name']} is a {have}; the step needs a {want}.", path=path)
        return row

    def _only(self, kind: str, provider: str | None) -> Document:
        wanted = self._mine({"kind": {"$eq": kind}, **({"config.provider": {"$eq": provider}} if provider else {})})
        rows = self._store.find(COLLECTION, wanted, sort=Defaults.SORT, limit=_ENOUGH_TO_NAME)
        if not rows:
            raise AccessDenied(f"There is no {_wanted(kind, provider)}; add one with `flow8 component add`.")
        if rows[0].get("is_default") is True or len(rows) == 1:
            return rows[0]
        names = ", ".join(row["name"] for row in rows)
        raise Conflict(
            f"The step needs a {_wanted(kind, provider)} and could mean {names}: name one in its component_config_ids, "
            "or make one the default with `flow8 component default`."
        )

    @property
    def _defaults(self) -> Defaults:
        return Defaults(self._store, COLLECTION, self._company_id)

    def _mine(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {**wanted, "company_id": self._company_id}

    def _look_up(self, reference: str) -> Document | None:
        if not isinstance(reference, str):
            raise ValidationFailed("a component is named by its id or its name, as text", path="id")
        value: ObjectId | str
        try:
            path, value = "_id", ObjectId(reference)
        except InvalidId:
            path, value = "name", bodies.normal(reference)
        found = self._store.find(COLLECTION, {path: value, "company_id": self._company_id}, limit=1)
        return found[0] if found else None

    def _find(self, reference: str) -> Document:
        row = self._look_up(reference)
        if row is None:
            raise _not_found()
        return row

    def _refuse_taken(self, name: str) -> None:
        if self._look_up(name) is not None:
            raise _taken(name)

    def _document(self, wanted: bodies.Wanted) -> Document:
        _id, now = ObjectId(), self._store.now()
        return {
            "_id": _id,
            "company_id": self._company_id,
            "name": wanted.name,
            "kind": wanted.kind,
            "config": self._sealer.seal(_id, wanted.config.values()),
            "is_default": False,
            "version": 1,
            "created_at": now,
            "updated_at": now,
        }

    def _insert(self, document: Document) -> None:
        try:
            self._store.insert(COLLECTION, document)
        except DuplicateKey:
            raise _taken(document["name"]) from None

    def _write(self, row: Document, changed: Mapping[str, Any]) -> None:
        as_read = self._mine({"_id": row["_id"], "version": row.get("version")})
        number = (row.get("version") or 0) + 1
        try:
            written = self._store.update(COLLECTION, as_read, {"$set": {**changed, "version": number}})
        except DuplicateKey:
            raise _taken(changed["name"]) from None
        if written is None:
            raise Conflict(
                f"Component {row['name']} was changed or deleted at the same time; look at it and try again."
            )

    def _delete(self, row: Document) -> None:
        if self._store.delete(COLLECTION, self._mine({"_id": row["_id"]})) is None:
            raise _not_found()

    def _switch(self, row: Document) -> None:
        if not self._defaults.switch(row):
            raise _not_found()

    def _recorded(
        self, action: str, row: Document, before: Mapping[str, Any], after: Mapping[str, Any], act: Callable[[], None]
    ) -> None:
        """Record, then act: what cannot be recorded does not happen. A failure is recorded as a second event."""
        audit = Audit(self._store, self._vault, self._company_id, origin=self._origin)
        record = partial(
            audit.record, action, resource_type="component", resource_id=str(row["_id"]), user_id=self._user_id
        )
        record(before=before, after=after)
        try:
            act()
        except Flow8Error as error:
            record(before=before, error=error)
            raise


def _describe(row: Document, *, is_default: bool) -> Shown:
    return {
        "id": str(row["_id"]),
        "name": row["name"],
        "kind": row["kind"],
        "config_summary": public(row["kind"], row["config"]),
        "is_default": is_default,
    }


def _state(row: Document) -> dict[str, Any]:
    return {"name": row["name"], "kind": row["kind"], "config": public(row["kind"], row["config"])}


def _wanted(kind: str, provider: str | None) -> str:
    return f"component of kind {kind}" + (f" with provider {provider}" if provider else "")


def _not_found() -> NotFound:
    return NotFound("There is no such component; `flow8 component list` shows which there are.")


def _taken(name: str) -> Conflict:
    return Conflict(f"There already is a component named {name}; choose another name.", path="name")
