"""What our files and functions look like: lengths, docstrings. Reads source, imports nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

FUNCTION_LINES = 60
FILE_LINES = 450  # rarely above 300: a file that comes near holds two nouns
TEST_FILE_LINES = 800

Function = ast.FunctionDef | ast.AsyncFunctionDef


def faults(path: Path, name: str, *, is_test: bool = False) -> list[str]:
    """What is wrong with the shape of one file, as "name:line: what"."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = text.count("\n")
    limit = TEST_FILE_LINES if is_test else FILE_LINES
    found = [f"{name}:1: {lines} lines; a file has at most {limit}"] if lines > limit else []
    if tree.body and ast.get_docstring(tree) is None:
        found.append(f"{name}:1: says nowhere what it is for")
    found += [f"{name}:{node.lineno}: {what}" for node, what in _long_functions(tree)]
    if not is_test:
        found += [f"{name}:{node.lineno}: {what}" for node, what in _undocumented(tree)]
    return found


def _long_functions(tree: ast.Module) -> Iterator[tuple[Function, str]]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield node, f"{node.name} has {lines} lines; a function fits on a screen ({FUNCTION_LINES})"


def _undocumented(tree: ast.Module) -> Iterator[tuple[Function | ast.ClassDef, str]]:
    """Public functions and classes of a module: their readers are elsewhere."""
    for node in tree.body:
        public = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
        if public and ast.get_docstring(node) is None:
            yield node, f"{node.name} is public and has no docstring"
