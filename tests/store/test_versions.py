"""A process that replaces what it wrote or found last does not read it again, and that changes nothing but the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow8_core.clock import ManualClock
from flow8_core.store import Delete, Document, Index, Insert, Op, Store, Update
from flow8_core.store.dialect.matching import compile_filter
from flow8_core.store.sqlite.store import SqliteStore

INDEXES = (Index((("queue", 1), ("due", 1))), Index((("until", 1),)))
VALUES = st.sampled_from([None, 0, 1, True, 2.5, "x", [1, 2], {"n": 1}])
BODIES = st.fixed_dictionaries({}, optional={"queue": VALUES, "due": VALUES, "until": VALUES, "steps": VALUES})
FILTERS = st.fixed_dictionaries({}, optional={"rev": st.integers(0, 3), "queue": st.sampled_from([None, 0, "x", 1])})
OPS = st.one_of(
    st.builds(lambda body, rev, where: ("replace", where, {**body, "rev": rev}), BODIES, st.integers(0, 3), FILTERS),
    st.builds(lambda rev: ("set", {}, {"$set": {"rev": rev, "until": rev}}), st.integers(0, 3)),
    st.just(("delete", {}, {})),
    st.just(("insert", {}, {"rev": 0})),
    st.just(("look", {}, {})),
)
STEPS = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from(["p", "q"]), OPS), max_size=25)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    """The same file, as two processes have it open."""
    path = tmp_path_factory.mktemp("versions") / "store.db"
    with ExitStack() as stack:
        first, second = (stack.enter_context(closing(SqliteStore(path, clock=ManualClock()))) for _ in range(2))
        first.declare("plays", INDEXES)
        yield first, second


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=STEPS)
def test_two_processes_that_replace_each_others_documents_see_what_one_would(
    pair: tuple[Store, Store], steps: list[tuple[int, str, tuple[str, dict[str, Any], dict[str, Any]]]]
) -> None:
    model: dict[str, Document] = {}
    _empty(pair[0])
    for who, key, (what, where, body) in steps:
        if what == "look":  # what it finds is remembered, too
            pair[who].find("plays", {}, sort=[("queue", 1)], limit=2)
            continue
        (applied,) = pair[who].batch([_op(what, key, where, body)])

        assert applied is _applied(model, what, key, where, body), (what, where, body)
    for number in (0, 1):
        assert {each["_id"]: each for each in pair[number].find("plays", {})} == model
    for wanted in ({"queue": "x"}, {"queue": 0}, {"until": 1}, {"until": {"$gte": 0}}, {"queue": None}):
        found = {each["_id"] for each in pair[0].find("plays", wanted)}
        assert found == {key for key, each in model.items() if compile_filter(wanted).matches(each)}, wanted


def test_what_somebody_else_wrote_in_between_is_not_overwritten(pair: tuple[Store, Store]) -> None:
    mine, theirs = pair
    _empty(mine)
    mine.insert("plays", {"_id": "p", "rev": 0})
    mine.update("plays", {"_id": "p", "rev": 0}, {"_id": "p", "rev": 1, "by": "me"})
    theirs.update("plays", {"_id": "p", "rev": 1}, {"_id": "p", "rev": 1, "by": "them"})

    assert mine.update("plays", {"_id": "p", "rev": 1, "by": "me"}, {"_id": "p", "rev": 2}) is None
    assert mine.get("plays", "p") == {"_id": "p", "rev": 1, "by": "them"}


def test_whoever_changes_what_a_find_gave_them_changes_nothing_that_is_stored(pair: tuple[Store, Store]) -> None:
    mine = pair[0]
    _empty(mine)
    mine.insert("plays", {"_id": "p", "rev": 0, "queue": "x", "steps": {"s": 1}})
    (found,) = mine.find("plays", {}, limit=1)
    found["rev"], found["queue"], found["steps"]["s"] = 7, "y", 2

    assert mine.batch([Update("plays", {"_id": "p", "rev": 7}, {"_id": "p", "rev": 8})]) == [False]
    assert mine.batch([Update("plays", {"_id": "p", "rev": 0}, {"_id": "p", "rev": 1, "queue": "z"})]) == [True]
    assert [mine.count("plays", {"queue": queue}) for queue in "xyz"] == [0, 0, 1]


def test_an_index_that_somebody_else_declares_meanwhile_is_kept(pair: tuple[Store, Store]) -> None:
    mine, theirs = pair
    _empty(mine)
    mine.insert("plays", {"_id": "p", "rev": 0})
    mine.update("plays", {"_id": "p", "rev": 0}, {"_id": "p", "rev": 1, "tags": ["a", "b"]})
    theirs.declare("plays", (*INDEXES, Index((("tags", 1),))))

    mine.update("plays", {"_id": "p", "rev": 1}, {"_id": "p", "rev": 2, "tags": ["b", "c"]})

    assert [mine.count("plays", {"tags": tag}) for tag in "abc"] == [0, 1, 1]


def _empty(store: Store) -> None:
    while store.delete("plays", {}) is not None:
        pass


def _op(what: str, key: str, where: dict[str, Any], body: dict[str, Any]) -> Op:
    if what == "insert":
        return Insert("plays", {"_id": key, **body})
    if what == "delete":
        return Delete("plays", {"_id": key})
    return Update("plays", {"_id": key, **where}, body if what == "set" else {"_id": key, **body})


def _applied(model: dict[str, Document], what: str, key: str, where: dict[str, Any], body: dict[str, Any]) -> bool:
    """What the operation comes to on a plain dictionary."""
    there = key in model and compile_filter(where).matches(model[key])
    if what == "insert":
        there = key not in model
    if there:
        if what == "delete":
            del model[key]
        elif what == "set":
            model[key] = {**model[key], **body["$set"]}
        else:
            model[key] = {"_id": key, **body}
    return there
