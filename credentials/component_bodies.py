"""What is sent in to make or change a component: checked whole before anything is stored, and no value ever echoed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson import ObjectId
from pydantic import ValidationError

from credentials.component_kinds import KINDS, MODELS, Config
from credentials.component_secrets import Sealer, holds, leaves, merged, public
from flow8_core.errors import ValidationFailed
from flow8_core.store import Document

# Latin letters only: look-alikes from other alphabets would make two names that nobody can tell apart.
_LETTER = r"[0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]"
_NAME = re.compile(rf"{_LETTER}(?:(?:{_LETTER}|[ ._-]){{0,98}}{_LETTER})?")


@dataclass(frozen=True)
class Wanted:
    """A component as it shall be."""

    name: str
    kind: str
    config: Config
    is_default: bool


def parse_new(body: Mapping[str, Any]) -> Wanted:
    """A new component from `{name, kind, config, is_default?}`. Raises `ValidationFailed`, all faults of a sort at
    once."""
    _check_fields(body, required=("name", "kind", "config"), optional=("is_default",))
    kind, is_default = body["kind"], body.get("is_default", False)
    problems = _name_problems(body["name"])
    if not isinstance(kind, str) or kind not in MODELS:
        problems.append(("kind", f"must be one of {', '.join(KINDS)}"))
    if not isinstance(is_default, bool):
        problems.append(("is_default", "must be true or false"))
    if not isinstance(body["config"], Mapping):
        problems.append(("config", "must be an object"))
    if problems:
        raise ValidationFailed.from_problems(problems)
    return Wanted(normal(body["name"]), kind, parse_config(kind, body["config"]), is_default)


def parse_change(body: Mapping[str, Any], row: Document, sealer: Sealer) -> Wanted:
    """The component in `row` after the change `{name?, config?}`. Raises `ValidationFailed`; `EnvelopeRejected` where a
    stored secret that is not sent anew does not open."""
    _check_fields(body, required=(), optional=("name", "config"))
    changes = body.get("config", {})
    problems = _name_problems(body["name"]) if "name" in body else []
    if not isinstance(changes, Mapping):
        problems.append(("config", "must be an object"))
    if problems:
        raise ValidationFailed.from_problems(problems)
    config = parse_config(row["kind"], merged(sealer.open(row, without=changes), changes))
    _refuse_rerouting(row, config, changes)
    name = normal(body["name"]) if "name" in body else row["name"]
    return Wanted(name, row["kind"], config, is_default=False)


def warnings(config: Config) -> list[str]:
    """What is odd about the config. Raises `ValidationFailed` for what is wrong."""
    findings = list(config.findings())
    fatal = [(finding.path, finding.message) for finding in findings if finding.fatal]
    if fatal:
        raise ValidationFailed.from_problems(fatal)
    return [f"{finding.path}: {finding.message}" for finding in findings]


def changed_fields(row: Document, changed: Mapping[str, Any], body: Mapping[str, Any]) -> list[str]:
    """The paths of what a change changes; of secrets, those that were sent."""
    before, after = (dict(leaves(public(row["kind"], config))) for config in (row["config"], changed["config"]))
    names = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    for path in MODELS[row["kind"]].secrets:
        if holds(body.get("config"), path) or holds(row["config"], path) != holds(changed["config"], path):
            names.add(path)
    return (["name"] if changed["name"] != row["name"] else []) + sorted(f"config.{path}" for path in names)


def _refuse_rerouting(row: Document, config: Config, changes: Mapping[str, Any]) -> None:
    """Whoever may edit a component must not thereby read its secrets, by having them sent to a host of his."""
    values = config.values()
    moved = [name for name in config.destinations if _moved(row["config"].get(name), values.get(name))]
    kept = [path for path in config.secrets if holds(values, path) and not holds(changes, path)]
    if moved and kept:
        message = f"must be sent again, because {', '.join(moved)} changes where it goes"
        raise ValidationFailed.from_problems([(f"config.{path}", message) for path in kept])


def _moved(before: Any, after: Any) -> bool:
    if isinstance(before, list) and isinstance(after, list):
        return not set(after) <= set(before)
    return bool(before != after)


def _check_fields(body: object, *, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    if not isinstance(body, Mapping):
        raise ValidationFailed("a component is an object: {name, kind, config}", path="$")
    problems = [(name, "is required") for name in required if name not in body]
    if any(name not in (*required, *optional) for name in body):
        problems.append(("$", f"has only the fields {', '.join((*required, *optional))}"))
    if problems:
        raise ValidationFailed.from_problems(problems)


def normal(name: str) -> str:
    """The one spelling of a name's accents (NFC)."""
    return unicodedata.normalize("NFC", name)


def _name_problems(name: object) -> list[tuple[str, str]]:
    if not isinstance(name, str) or not _NAME.fullmatch(normal(name)):
        return [("name", "must be 1 to 100 Latin letters, digits, spaces, dots, hyphens or underscores")]
    if ObjectId.is_valid(name):
        return [("name", "looks like an id; choose another")]
    return []


def parse_config(kind: str, config: Mapping[str, Any]) -> Config:
    """The config as its kind's model. Raises `ValidationFailed` with all faults of shape at once, no value in them."""
    try:
        return MODELS[kind].model_validate(dict(config))
    except ValidationError as error:
        problems = [(_path(fault["loc"], config), _message(fault)) for fault in error.errors(include_input=False)]
    raise ValidationFailed.from_problems(problems)


def _path(location: tuple[int | str, ...], config: object) -> str:
    """The JSON path of a fault, without the tags that pydantic adds for a union."""
    path = "config"
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
            config = config[part] if isinstance(config, list) and part < len(config) else None
        elif isinstance(config, Mapping) and part not in config and part == config.get("type"):
            continue
        else:
            path += f".{part}" if part.isidentifier() and len(part) <= 40 else ".?"  # a pasted secret may stand here
            config = config.get(part) if isinstance(config, Mapping) else None
    return path


def _message(fault: Any) -> str:
    match fault["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            return "needs a type: bearer, basic, header or query"
        case "string_pattern_mismatch":
            return "does not have the right form"
        case "extra_forbidden":
            return "is not a field of this kind"
        case "missing":
            return "is required"
        case _:
            return str(fault["msg"]).removeprefix("Value error, ")
