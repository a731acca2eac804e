"""Turns the part of a filter that lies on a declared index, or on the `_id`, into SQL.

The SQL gives a superset of the matches (Python's matcher has the last word), in the asked order where it says so.
Documents whose indexed field is an array have several entries, marked m=1, and are asked for by a statement of their
own: one bound of a range only, since different elements may meet different bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flow8_core.store.base import Sort
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.matching import Condition, Matcher
from flow8_core.store.sqlite.catalogue import Collection, IndexTable

MOST_PLANS = 500  # that are remembered of a collection
MOST_VALUES = 1000  # of an `$in` that is worth a seek for each
_RANGES = ("$gt", "$gte", "$lt", "$lte")


class Statement(NamedTuple):
    """What follows SELECT ... : a FROM clause and its parameters."""

    source: str
    order: str
    parameters: tuple[Any, ...]


class Plan(NamedTuple):
    """`main` and, for an index that has met arrays, `multikey`. `rest` is what rows of `main` must still be asked,
    `settled` what its parameters say, in their order; `ordered`: they come as sorted."""

    main: Statement
    multikey: Statement | None
    ordered: bool
    rest: Matcher
    settled: tuple[Condition, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether every row of `main` matches."""
        return not self.rest.conditions and not self.rest.alternatives


@dataclass(slots=True)
class _Terms:
    """SQL terms on key columns, gathered from the left: `wide` ones for arrays. `equal` columns hold one value each,
    `bound` ones several at most; `settled` are the conditions that the terms express exactly."""

    where: list[str] = field(default_factory=list)
    parameters: list[bytes] = field(default_factory=list)
    wide_where: list[str] = field(default_factory=list)
    wide_parameters: list[bytes] = field(default_factory=list)
    settled: list[Condition] = field(default_factory=list)
    equal: int = 0
    bound: int = 0
    ranged: bool = False

    def both(self, term: str, values: Sequence[bytes]) -> None:
        self.where.append(term)
        self.parameters += values
        self.wide_where.append(term)
        self.wide_parameters += values


def choose(collection: Collection, matcher: Matcher, sort: Sort) -> Plan:
    """The best plan that the indexes allow; a scan of the collection at worst."""
    if matcher.alternatives or collection.has_arrays or not all(map(_is_plain, matcher.conditions)):
        return _chosen(collection, matcher, sort)
    shape = (*(each.path for each in matcher.conditions), *sort)
    known = collection.plans.get(shape)
    if known is None:
        plan = _chosen(collection, matcher, sort)
        if len(collection.plans) < MOST_PLANS:
            collection.plans[shape] = _Equalities.of(plan, matcher)
        return plan
    remembered: _Equalities = known
    return remembered.plan_for(matcher)


def _is_plain(condition: Condition) -> bool:
    """Whether it only compares with a value, and not with null, which is what a missing field counts as."""
    return condition.operator == "$eq" and condition.key != keys.NULL


def _excludes_missing(condition: Condition) -> bool:
    """Whether no document without the field passes."""
    if condition.operator == "$in":
        return keys.NULL not in condition.choices
    return condition.operator in ("$eq", *_RANGES) and condition.key != keys.NULL


class _Equalities(NamedTuple):
    """The plan of a query that asks for equality alone: only the values differ. `bound` are the places of the
    conditions that are parameters, `rest` of those that are not."""

    plan: Plan
    bound: tuple[int, ...]
    rest: tuple[int, ...]

    @classmethod
    def of(cls, plan: Plan, matcher: Matcher) -> _Equalities:
        places = {id(condition): place for place, condition in enumerate(matcher.conditions)}
        bound = tuple(places[id(condition)] for condition in plan.settled)
        rest = tuple(places[id(condition)] for condition in plan.rest.conditions)
        return cls(plan, bound, rest)

    def plan_for(self, matcher: Matcher) -> Plan:
        """The same plan with these values."""
        conditions = matcher.conditions
        source, order, _ = self.plan.main
        main = Statement(source, order, tuple([conditions[place].key for place in self.bound]))
        rest = Matcher(tuple([conditions[place] for place in self.rest]))
        return Plan(main, self.plan.multikey, self.plan.ordered, rest)  # `_replace` takes three times as long


def _chosen(collection: Collection, matcher: Matcher, sort: Sort) -> Plan:
    by_path: dict[str, list[Condition]] = {}
    for condition in matcher.conditions:
        by_path.setdefault(condition.path, []).append(condition)
    by_id = _Terms()
    if "_id" in by_path:
        _add_column(by_id, "d.id", by_path["_id"])
        if by_id.bound:
            return _by_id(collection, by_id, sort, matcher)
    best: tuple[tuple[int, ...], IndexTable, _Terms, str | None] | None = None
    for index in collection.indexes:
        first = index.index.keys[0][0]
        if first not in by_path and not (sort and sort[0][0] == first):
            continue
        if index.index.sparse and not any(map(_excludes_missing, by_path.get(first, ()))):
            continue
        terms = _terms(index, by_path)
        order = _order(index, terms.equal, sort)
        score = (terms.bound, int(terms.ranged), int(bool(order)), -len(index.columns))
        if (terms.bound or terms.ranged or order) and (best is None or score > best[0]):
            best = (score, index, terms, order)
    if best is not None:
        return _by_index(collection, best[1], best[2], best[3], matcher)
    return _by_id(collection, by_id, sort, matcher)


def _by_id(collection: Collection, terms: _Terms, sort: Sort, matcher: Matcher) -> Plan:
    where = f" WHERE {' AND '.join(terms.where)}" if terms.where else ""
    ordered, order = _id_order(sort)
    statement = Statement(f"{collection.table} AS d{where}", order, tuple(terms.parameters))
    return Plan(statement, None, ordered, matcher.without(terms.settled), tuple(terms.settled))


def _id_order(sort: Sort) -> tuple[bool, str]:
    if not sort:
        return True, ""
    if sort[0][0] == "_id":
        return True, f" ORDER BY d.id {'ASC' if sort[0][1] > 0 else 'DESC'}"
    return False, ""


def _by_index(collection: Collection, index: IndexTable, terms: _Terms, order: str | None, matcher: Matcher) -> Plan:
    joined = f"{index.table} AS i CROSS JOIN {collection.table} AS d ON d.row = i.row"
    main = Statement(f"{joined} WHERE {' AND '.join(['i.m = 0', *terms.where])}", order or "", tuple(terms.parameters))
    multikey = None
    if index.has_arrays:
        where = " AND ".join(["i.m = 1", *terms.wide_where])
        multikey = Statement(f"{joined} WHERE {where}", "", tuple(terms.wide_parameters))
    return Plan(main, multikey, order is not None, matcher.without(terms.settled), tuple(terms.settled))


def _terms(index: IndexTable, by_path: dict[str, list[Condition]]) -> _Terms:
    terms = _Terms()
    for column, (path, _) in zip(index.columns, index.index.keys, strict=True):
        conditions = by_path.get(path)
        if conditions is None or not _add_column(terms, f"i.{column}", conditions):
            break
    return terms


def _add_column(terms: _Terms, column: str, conditions: list[Condition]) -> bool:
    """Add what the conditions say about a column; True where the next column can be used as well."""
    for condition in conditions:
        if condition.operator == "$eq":
            terms.both(f"{column} = ?", (condition.key,))
            terms.equal += terms.equal == terms.bound  # as long as no `$in` stands before it
            terms.bound += 1
            terms.settled.append(condition)
            return True
    for condition in conditions:
        if condition.operator == "$in" and len(condition.choices) <= MOST_VALUES:
            values = sorted(condition.choices)
            terms.both(f"{column} IN ({','.join('?' * len(values))})", values)
            terms.bound += 1
            terms.settled.append(condition)
            return True
    _add_range(terms, column, conditions)
    return False


def _add_range(terms: _Terms, column: str, conditions: list[Condition]) -> None:
    low, high = (b"", ">="), (b"\xff", "<")
    for condition in conditions:
        if condition.operator not in _RANGES:
            continue
        key = condition.key
        if key == keys.NAN:
            continue
        least, beyond = keys.bracket(key)
        floor, ceiling = (least, ">="), (beyond, "<")
        if condition.operator in ("$gt", "$gte"):
            floor = (key, ">" if condition.operator == "$gt" else ">=")
        else:
            ceiling = (key, "<" if condition.operator == "$lt" else "<=")
        if not terms.ranged:
            terms.wide_where += (f"{column} {floor[1]} ?", f"{column} {ceiling[1]} ?")
            terms.wide_parameters += (floor[0], ceiling[0])
        low, high = _tighter(low, floor, later=True), _tighter(high, ceiling, later=False)
        terms.ranged = True
        terms.settled.append(condition)
    if terms.ranged:
        terms.where += (f"{column} {low[1]} ?", f"{column} {high[1]} ?")
        terms.parameters += (low[0], high[0])


def _tighter(one: tuple[bytes, str], other: tuple[bytes, str], *, later: bool) -> tuple[bytes, str]:
    if one[0] == other[0]:
        return one if len(one[1]) == 1 else other  # the strict sign
    return max(one, other) if later else min(one, other)


def _order(index: IndexTable, equal: int, sort: Sort) -> str | None:
    """The ORDER BY that gives `sort` by walking the index; "" for no sort; None where it cannot."""
    if not sort:
        return ""
    fixed = {path for path, _ in index.index.keys[:equal]}
    wanted = [(path, direction) for path, direction in sort if path not in fixed]
    offered = index.index.keys[equal : equal + len(wanted)]
    if [path for path, _ in wanted] != [path for path, _ in offered]:
        return None
    if len({direction * given for (_, direction), (_, given) in zip(wanted, offered, strict=True)}) > 1:
        return None
    columns = index.columns[equal : equal + len(wanted)]
    order = ", ".join(
        f"i.{column} {'ASC' if d > 0 else 'DESC'}" for column, (_, d) in zip(columns, wanted, strict=True)
    )
    return f" ORDER BY {order}" if order else ""
