"""Which queries name their company: reads the source, and follows a filter to where it is made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.floors import source_files

FIELD = "company_id"
METHODS = {"find": 1, "get": 1, "update": 1, "delete": 1, "count": 1}  # of a store: which argument says what is meant
OPERATIONS = {"Update": 1, "Delete": 1}  # of a batch
_DEPTH = 6  # how far a filter is followed

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


def unbound(root: Path) -> dict[str, list[int]]:
    """Files with queries that are not bound to a company, and the lines where those begin."""
    found = {}
    for path in source_files(root):
        name = str(path.relative_to(root))
        if not name.startswith(("flow8_core/store", "flow8_lab")):
            lines = [query.lineno for query in _unbound(ast.parse(path.read_text(encoding="utf-8")))]
            if lines:
                found[name] = sorted(set(lines))
    return found


def _unbound(module: ast.Module) -> Iterator[ast.Call]:
    for scopes, call in _calls(module, (module,)):
        position = _filter_position(call)
        if position is not None:
            argument = call.args[position] if len(call.args) > position else None
            if argument is None or not _names_company(argument, scopes, _DEPTH):
                yield call


def _filter_position(call: ast.Call) -> int | None:
    """Where the filter stands, if this is a query; None if it is none."""
    function = call.func
    if isinstance(function, ast.Name):
        return OPERATIONS.get(function.id)
    if not isinstance(function, ast.Attribute) or function.attr not in METHODS:
        return None
    holder = function.value
    last = holder.attr if isinstance(holder, ast.Attribute) else holder.id if isinstance(holder, ast.Name) else ""
    return METHODS[function.attr] if last.lstrip("_") == "store" else None


def _calls(node: ast.AST, scopes: tuple[Scope, ...]) -> Iterator[tuple[tuple[Scope, ...], ast.Call]]:
    """Every call, with the scopes around it, innermost last."""
    for child in ast.iter_child_nodes(node):
        inner = (*scopes, child) if isinstance(child, Scope) else scopes
        if isinstance(child, ast.Call):
            yield inner, child
        yield from _calls(child, inner)


def _names_company(value: ast.AST, scopes: tuple[Scope, ...], depth: int) -> bool:
    """Whether what makes up this value holds the field: itself, the names in it, and the methods that it calls."""
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and node.value == FIELD:
            return True
        sources = _sources(node, scopes) if depth else []
        if sources and all(_names_company(made, where, depth - 1) for made, where in sources):
            return True
    return False


def _sources(node: ast.AST, scopes: tuple[Scope, ...]) -> list[tuple[ast.AST, tuple[Scope, ...]]]:
    """What a name or a call in a value stands for: assigned values, returned ones, or, of a parameter, all that is
    handed in."""
    if isinstance(node, ast.Name):
        function = next((scope for scope in reversed(scopes) if isinstance(scope, ast.FunctionDef)), None)
        if function is None:
            return []
        handed = [one.arg for one in function.args.args].index(node.id) if _is_parameter(function, node.id) else None
        if handed is not None:
            return [(call.args[handed - 1], where) for call, where in _callers(scopes, function) if call.args]
        return [(value, scopes) for value in _assigned(function, node.id)]
    if isinstance(node, ast.Call):
        return [
            (each.value, (*scopes[: scopes.index(scope) + 1], function))
            for scope in scopes
            for function in scope.body
            if isinstance(function, ast.FunctionDef) and function.name == _called(node)
            for each in ast.walk(function)
            if isinstance(each, ast.Return) and each.value is not None
        ]
    return []


def _called(call: ast.Call) -> str:
    """The function, or the method of `self`, that is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr if getattr(call.func.value, "id", "") == "self" else ""
    return getattr(call.func, "id", "")


def _is_parameter(function: ast.FunctionDef, name: str) -> bool:
    return any(one.arg == name for one in function.args.args)


def _callers(scopes: tuple[Scope, ...], function: ast.FunctionDef) -> Iterator[tuple[ast.Call, tuple[Scope, ...]]]:
    holder = scopes[scopes.index(function) - 1]
    for where, call in _calls(holder, scopes[: scopes.index(holder) + 1]):
        if _called(call) == function.name:
            yield call, where


def _assigned(function: ast.FunctionDef, name: str) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(getattr(target, "id", "") == name for target in targets):
                yield node.value
