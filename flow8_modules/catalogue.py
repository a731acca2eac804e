"""The modules that there are: ours by a generated table, third parties' by entry points. Looking imports no vendor SDK.

python -m flow8_modules.catalogue --write     writes catalogue.json anew from integrations/
python -m flow8_modules.catalogue --check     exits 1 where it is out of date
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from flow8_core.errors import Conflict, InternalError, ValidationFailed
from flow8_core.installed import entry_points
from flow8_modules.module import Module

GROUP = "flow8.modules"
TABLE = Path(__file__).with_name("catalogue.json")
SWITCH = "FLOW8_THIRD_PARTY_MODULES"

AnyModule = Module[Any, Any]
_REF = re.compile(r"(?P<ref>[a-z][a-z0-9-]{0,63})(@(?P<version>[1-9][0-9]{0,3}))?")


class ModuleSettings(BaseModel):
    """The `modules` section: whether installed packages may add modules (also `FLOW8_THIRD_PARTY_MODULES=off`), and the
    dotted paths of packages that add some without an entry point."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    third_parties: bool = Field(default_factory=lambda: os.environ.get(SWITCH, "on") != "off")
    packages: tuple[str, ...] = ()


class Catalogue:
    """Finds modules by ref. `points` are the entry points to look at; None stands for those of the installation."""

    def __init__(
        self, settings: ModuleSettings | None = None, *, points: Iterable[EntryPoint] | None = None, table: Path = TABLE
    ) -> None:
        self._settings = settings or ModuleSettings()
        self._points = points
        self._table = table
        self._found: dict[str, AnyModule] = {}

    def get(self, ref: str) -> AnyModule:
        """The module for `slack-message` (its newest version) or `slack-message@1`.

        Raises `ValidationFailed` at `module_ref`, with near matches.
        """
        found = self._found.get(ref) if isinstance(ref, str) else None
        if found is None:
            key = self._key(ref)
            path = self._ours.get(key)
            found = self._found[ref] = self._theirs[key] if path is None else _load(path)
        return found

    def refs(self) -> tuple[str, ...]:
        """All refs with versions, sorted: `("http-request@1", ...)`. Imports what third parties bring, and not ours."""
        return tuple(sorted({*self._ours, *self._theirs}))

    def describe(self, ref: str) -> dict[str, Any]:
        """What `Module.describe` says of it. Raises as `get` does."""
        return self.get(ref).describe()

    def _key(self, ref: str) -> str:
        match = _REF.fullmatch(ref) if isinstance(ref, str) else None
        if match is None:
            raise ValidationFailed("A module_ref reads slack-message, or slack-message@1.", path="module_ref")
        for known in (lambda: self._ours, lambda: self._theirs):  # one after the other: ours load nothing
            versions = sorted(int(key.partition("@")[2]) for key in known() if key.partition("@")[0] == match["ref"])
            wanted = int(match["version"]) if match["version"] else max(versions, default=0)
            if wanted in versions:
                return f"{match['ref']}@{wanted}"
            if versions:
                raise ValidationFailed(
                    f"The module has no such version; there is {_listed(map(str, versions))}.", path="module_ref"
                )
        names = sorted({key.partition("@")[0] for key in self.refs()})
        near = difflib.get_close_matches(match["ref"], names, n=3, cutoff=0.5)
        hint = f"did you mean {_listed(near)}?" if near else "`flow8 modules` lists what there is."
        raise ValidationFailed(f"There is no module of that name; {hint}", path="module_ref")

    @cached_property
    def _ours(self) -> Mapping[str, str]:
        table = json.loads(self._table.read_text(encoding="utf-8"))
        return {key: entry["path"] for key, entry in table.items()}

    @cached_property
    def _theirs(self) -> Mapping[str, AnyModule]:
        """Third parties' modules. One that takes the ref of another is refused: a flow must mean one thing."""
        found: dict[str, AnyModule] = {}
        for where, loaded in self._strangers():
            for each in _modules_in(loaded):
                if each.key in self._ours or found.get(each.key, each) is not each:
                    raise Conflict(f"{where} brings a second module {each.key}: rename it, or take the package out.")
                found[each.key] = each
        return found

    def _strangers(self) -> Iterable[tuple[str, Any]]:
        if self._settings.third_parties:
            points = entry_points(GROUP) if self._points is None else self._points
            for point in sorted(points, key=lambda point: point.name):
                yield f"the entry point {point.name}", _loaded(point.load, point.name)
        for package in self._settings.packages:
            yield package, _loaded(lambda package=package: importlib.import_module(package), package)


def _loaded(load: Any, name: str) -> Any:
    try:
        return load()
    except Exception as error:  # somebody else's code: whatever it raises, we say whose it was
        raise InternalError(
            f"The modules of {name} cannot be loaded: {type(error).__name__}. Mend or remove it."
        ) from error


def _load(path: str) -> AnyModule:
    package, _, name = path.partition(":")
    found = getattr(importlib.import_module(package), name)
    if not isinstance(found, Module):
        raise InternalError(f"{path} is no module: run `python -m flow8_modules.catalogue --write`.")
    return found


def _modules_in(loaded: Any) -> list[AnyModule]:
    """What an entry point stands for: a module, several, or a Python module that holds some."""
    if isinstance(loaded, Module):
        return [loaded]
    values = loaded if isinstance(loaded, list | tuple) else vars(loaded).values()
    return [each for each in values if isinstance(each, Module)]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def generate(root: Path = TABLE.parent / "integrations") -> dict[str, Any]:
    """The table anew: every module under `integrations/`, by key, with its dotted path and its description."""
    table: dict[str, Any] = {}
    for file in sorted(root.glob("*/*.py")):
        package = f"flow8_modules.integrations.{file.parent.name}.{file.stem}"
        for name, each in vars(importlib.import_module(package)).items():
            if isinstance(each, Module) and each.function.__module__ == package:
                if each.key in table:
                    raise Conflict(f"{each.key} stands in two files")
                table[each.key] = {"path": f"{package}:{name}", "module": each.describe()}
    return dict(sorted(table.items()))


def breaking(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What an older flow would trip over, of modules that kept their version: it asks for a new version."""
    broken = []
    for key in old.keys() & new.keys():
        was, now = old[key]["module"], new[key]["module"]
        gone = set(was["input"]["properties"]) - set(now["input"]["properties"])
        demanded = set(now["input"].get("required", ())) - set(was["input"].get("required", ()))
        lost = set(was["output"]["properties"]) - set(now["output"]["properties"])
        broken += [f"{key}: input {name} is gone" for name in sorted(gone)]
        broken += [f"{key}: input {name} is now required" for name in sorted(demanded)]
        broken += [f"{key}: output {name} is gone" for name in sorted(lost)]
    return sorted(broken)


def main(arguments: list[str]) -> int:
    """`--write` or `--check`; 0 where all is well."""
    old = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    new = generate()
    for line in breaking(old, new):
        print(f"breaks older flows, give it a new version: {line}", file=sys.stderr)  # noqa: T201
    if arguments == ["--write"]:
        TABLE.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return 0
    if old != new:
        print("catalogue.json is out of date: python -m flow8_modules.catalogue --write", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
