"""The SDK's exported names are an artefact: sorted, complete, and all that our own modules use."""

from __future__ import annotations

import ast
from pathlib import Path

import flow8_modules

INTEGRATIONS = Path(flow8_modules.__file__).parent / "integrations"


def test_the_names_are_sorted_and_there() -> None:
    assert sorted(flow8_modules.__all__) == flow8_modules.__all__
    assert all(hasattr(flow8_modules, name) for name in flow8_modules.__all__)


def test_modules_import_only_the_sdk_their_own_folder_and_the_egress() -> None:
    strays = []
    for file in INTEGRATIONS.glob("*/*.py"):
        own = f"flow8_modules.integrations.{file.parent.name}"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                source = node.module or ""
                allowed = source == "flow8_modules" or source.startswith((own, "flow8_core.egress"))
                if source.partition(".")[0] in ("flow8_core", "credentials", "flow8_modules") and not allowed:
                    strays.append((file.name, source))
                if source == "flow8_modules":
                    strays += [(file.name, each.name) for each in node.names if each.name not in flow8_modules.__all__]

    assert strays == []
