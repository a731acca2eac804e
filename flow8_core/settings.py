"""Settings from `flow8.yaml`, `.env` and the environment, into the models that the floors declare.

The environment beats `.env`, and `.env` beats the file. `FLOW8_EGRESS__ALLOW` is the key `egress.allow`; lists and
mappings are JSON. In the file `${NAME}` stands for a variable of either, and `$${` for a plain `${`. All faults are
reported at once, by the path of their key, and never with a value.

Secrets that belong to no file (`ENC_KEY_SECRET` and its like) are in no model; `environment()` has them.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from dotenv.parser import parse_stream
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from flow8_core import redaction, strict_yaml
from flow8_core.errors import ValidationFailed

PREFIX = "FLOW8_"
DELIMITER = "__"
CONFIG_VARIABLE = "FLOW8_CONFIG"
CONFIG_NAME = "flow8.yaml"
ENV_NAME = ".env"

M = TypeVar("M", bound=BaseModel)
Problem = tuple[str, str]

_SECRET_NAME = re.compile(r"(?i)(secret|salt|password|passwd|token|key)(_next|_previous)?$")
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_URL_PASSWORD = re.compile(r"://[^/?#:@]*:([^/?#]+)@")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load(model: type[M], *, environ: Mapping[str, str], cwd: Path, config_path: Path | None = None) -> M:
    """The settings of one process.

    The file is `config_path`, else what `FLOW8_CONFIG` names, else `flow8.yaml` in `cwd` where there is one; relative
    paths start at `cwd`. Raises `ValidationFailed` with every fault in `problems`.
    """
    variables = environment(environ, cwd)
    problems: list[Problem] = list(_unknown_variables(model, variables))
    text = _file_text(_file_path(variables, cwd, config_path))
    from_file = _expanded(_mapping(text), "", variables, problems)
    data = _merged(from_file, _from_variables(model, variables, problems))
    _remember_secrets(data)
    try:
        settings = model.model_validate(data)
    except ValidationError as error:
        problems += [_problem(details, model) for details in error.errors(include_url=False)]
    if problems:
        raise ValidationFailed.from_problems(problems)
    return settings


def environment(environ: Mapping[str, str], cwd: Path) -> Mapping[str, str]:
    """The variables of the process over those of `.env` in `cwd`, which are taken literally.

    Values whose name says that they are secret become known to the log redaction. Raises `ValidationFailed` naming the
    line of `.env` that cannot be read.
    """
    merged = {**_dotenv(cwd / ENV_NAME), **environ}
    for name, value in merged.items():
        _remember(name, value)
    return merged


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(_read(path))):
        if binding.error or (binding.key is not None and binding.value is None):
            line = binding.original.line
            raise ValidationFailed("this line is not NAME=value", path=f"{path.name}:{line}")
        if binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    return found


def _file_path(variables: Mapping[str, str], cwd: Path, config_path: Path | None) -> Path | None:
    named = config_path or variables.get(CONFIG_VARIABLE)
    if named:
        path = cwd / named
        if not path.is_file():
            raise ValidationFailed("the configuration file that this names is not there", path=str(named))
        return path
    path = cwd / CONFIG_NAME
    return path if path.is_file() else None


def _file_text(path: Path | None) -> str:
    return "" if path is None else _read(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise ValidationFailed("this file cannot be read as UTF-8 text", path=path.name) from None


def _mapping(text: str) -> dict[str, Any]:
    document = strict_yaml.parse(text, name=CONFIG_NAME)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ValidationFailed("the configuration is a mapping of keys to values", path=CONFIG_NAME)
    return cast(dict[str, Any], document)


def _expanded(node: Any, path: str, variables: Mapping[str, str], problems: list[Problem]) -> Any:
    """The document with each `${NAME}` in its texts replaced. Keys stay as they are."""
    if isinstance(node, dict):
        return {key: _expanded(value, _join(path, key), variables, problems) for key, value in node.items()}
    if isinstance(node, list):
        return [_expanded(value, _join(path, at), variables, problems) for at, value in enumerate(node)]
    if not isinstance(node, str):
        return node

    def value_of(found: re.Match[str]) -> str:
        name = found.group(1)
        if name is None:
            return "${"
        if not found.group(2) or not _VARIABLE_NAME.fullmatch(name):
            problems.append((path, "has a ${ that begins no ${NAME}; write $${ for a plain ${"))
        elif name not in variables:
            problems.append((path, f"needs the variable {name}, which is neither in the environment nor in .env"))
        return variables.get(name, "")

    return _REFERENCE.sub(value_of, node)


class _Variables(EnvSettingsSource):
    """pydantic-settings' reading of variables, from a mapping that is handed in instead of `os.environ`."""

    def __init__(self, model: type[BaseModel], variables: Mapping[str, str]) -> None:
        self._handed_in = {name.lower(): value for name, value in variables.items() if value}
        super().__init__(_as_settings(model), case_sensitive=False, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._handed_in


@cache
def _as_settings(model: type[BaseModel]) -> type[BaseSettings]:
    """The model as pydantic-settings wants it; making one takes as long as all the rest of reading settings."""
    return type(model.__name__, (model, BaseSettings), {"__module__": __name__})


def _from_variables(model: type[BaseModel], variables: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    """The part of the settings that variables give. A variable that is set to nothing counts as not set."""
    source = _Variables(model, variables)
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        try:
            value, key, is_complex = source.get_field_value(field, name)
            value = source.prepare_field_value(name, field, value, is_complex)
        except (ValueError, SettingsError):
            problems.append((name, f"{PREFIX}{name.upper()} is not the JSON that this key needs"))
            continue
        if value is not None:
            found[key] = value
    return found


def _unknown_variables(model: type[BaseModel], variables: Mapping[str, str]) -> Iterator[Problem]:
    """Variables that were meant for us and name no key.

    Not every FLOW8_ variable is a setting, and Kubernetes invents some for a service named flow8: so a flat name counts
    only where it nearly is that of a key. Nested ones (`__`) are ours beyond doubt.
    """
    known = [f"{PREFIX}{name.upper()}" for name in model.model_fields]
    for name in variables:
        head, nested, _rest = name.upper().partition(DELIMITER)
        if not head.startswith(PREFIX) or head in known:
            continue
        near = difflib.get_close_matches(head, known, n=1, cutoff=0.9)
        if near:
            yield name, f"is no setting; {near[0]} is"
        elif nested:
            yield name, "is no setting"


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _remember_secrets(node: Any, name: str = "") -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            _remember_secrets(value, str(key))
    elif isinstance(node, list):
        for value in node:
            _remember_secrets(value, name)
    elif isinstance(node, str):
        _remember(name, node)


def _remember(name: str, value: str) -> None:
    """Settings live as long as the process: so must the memory of what is secret in them."""
    if _SECRET_NAME.search(name):
        redaction.register(value, keep=True)
    elif "://" in value and "@" in value:
        found = _URL_PASSWORD.search(value)
        if found:
            redaction.register(found.group(1), keep=True)
            redaction.register(unquote(found.group(1)), keep=True)


def _problem(details: ErrorDetails, model: type[BaseModel]) -> Problem:
    path = ""
    for part in details["loc"]:
        path = _join(path, part)
    if details["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path, model.model_fields, n=1) if len(details["loc"]) == 1 else []
        return path, "is no setting" + (f"; did you mean {near[0]}?" if near else "")
    message = details["msg"].removeprefix("Value error, ")
    given = details["input"]
    if isinstance(given, str) and given and given in message:
        message = "is not valid here"
    return path or "$", message


def _join(path: str, part: Any) -> str:
    if isinstance(part, int):
        return f"{path}[{part}]"
    return f"{path}.{part}" if path else str(part)
