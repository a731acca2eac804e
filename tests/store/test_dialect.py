"""Properties of the dialect: both stores find, sort and change alike, and an index changes nothing but the time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from bson.objectid import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from flow8_core.errors import ValidationFailed
from flow8_core.store import Document, Index, Insert, Sort, Store, open_store
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.documents import decode, encode
from flow8_core.store.dialect.matching import compile_filter, in_order
from flow8_core.store.dialect.updating import compile_update
from tests.counterparts.mongo import empty_database

_DATES = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1]),
    st.floats(-3, 3, allow_nan=False, width=16).filter(lambda number: str(number) != "-0.0"),
    st.text("ab\x00", max_size=3),
    st.binary(max_size=2),
    _DATES,
    st.sampled_from([ObjectId("65f000000000000000000001"), ObjectId("65f000000000000000000002")]),
)
# Where mongo-java-server differs from MongoDB the values keep out of the way: no mappings or empty lists to compare.
_VALUES = st.one_of(_SCALARS, st.lists(st.integers(-3, 3), min_size=1, max_size=3))
_NOT_NULL = _SCALARS.filter(lambda value: value is not None)
_SET = st.one_of(_NOT_NULL, st.lists(st.integers(-3, 3), min_size=1, max_size=3))
_PATHS = st.sampled_from(["a", "b", "c.d"])


def _documents(values: st.SearchStrategy[Any], scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Document]]:
    """Up to eight documents with some of the fields `a`, `b` and `c.d`; at most one of them holds arrays."""
    fields = st.tuples(
        st.fixed_dictionaries({}, optional={"a": values, "b": scalars}),
        st.fixed_dictionaries({}, optional={"d": scalars}),
    )
    return st.lists(fields.map(lambda pair: {**pair[0], **({"c": pair[1]} if pair[1] else {})}), max_size=8)


_DOCUMENTS = _documents(_VALUES, _SCALARS)
_ONE_OPERATOR = st.one_of(
    st.builds(lambda value: {"$eq": value}, _SCALARS),
    st.builds(lambda value: {"$ne": value}, _SCALARS),
    st.builds(lambda operator, value: {operator: value}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), _NOT_NULL),
    st.builds(
        lambda operator, values: {operator: values}, st.sampled_from(["$in", "$nin"]), st.lists(_SCALARS, max_size=3)
    ),
    st.builds(lambda value: {"$exists": value}, st.booleans()),
)
_SIMPLE = st.dictionaries(_PATHS, st.one_of(_SCALARS, _ONE_OPERATOR), max_size=3)
_FILTERS = st.one_of(
    _SIMPLE,
    st.builds(lambda one, rest: {"$or": rest, **one}, _SIMPLE, st.lists(_SIMPLE, min_size=1, max_size=3)),
    st.builds(lambda parts: {"$and": parts}, st.lists(_SIMPLE, min_size=1, max_size=3)),
)
_SORTS = st.lists(st.tuples(_PATHS, st.sampled_from([1, -1])), max_size=2, unique_by=lambda each: each[0]).map(
    lambda sort: [*sort, ("_id", 1)]
)
_NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -1.5]))
_UPDATES = st.one_of(
    st.builds(lambda path, value: {"$set": {path: value}}, _PATHS, _SET),
    st.builds(lambda path: {"$unset": {path: 1}}, _PATHS),
    st.builds(lambda path, value: {"$inc": {path: value}}, _PATHS, _NUMBERS),
    st.builds(lambda op, path, value: {op: {path: value}}, st.sampled_from(["$max", "$min"]), _PATHS, _NUMBERS),
    st.builds(
        lambda op, path, value: {op: {path: value}}, st.sampled_from(["$push", "$addToSet", "$pull"]), _PATHS, _NOT_NULL
    ),
)
_INDEXES = [
    Index((("a", 1),)),
    Index((("b", -1), ("a", 1))),
    Index((("b", 1), ("c.d", -1))),
    Index((("c.d", 1), ("b", 1), ("a", -1))),
]
_collections = (f"things{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(open_store(f"sqlite:///{tmp_path_factory.mktemp('dialect')}/store.db")) as store:
        yield store


@pytest.fixture(scope="module")
def mongo(mongo_server: str) -> Iterator[Store]:
    with empty_database(mongo_server) as uri, closing(open_store(uri)) as store:
        yield store


@given(documents=_DOCUMENTS, filters=st.lists(_FILTERS, min_size=1, max_size=6), sort=_SORTS, limit=st.integers(0, 3))
@settings(max_examples=100)
def test_an_index_changes_nothing_that_a_query_finds(
    indexed: Store, documents: list[Document], filters: list[Mapping[str, Any]], sort: Sort, limit: int
) -> None:
    collection = next(_collections)
    numbered = [{"_id": number, **document} for number, document in enumerate(documents)]
    indexed.declare(collection, _INDEXES)
    indexed.batch([Insert(collection, document) for document in numbered])

    for condition in filters:
        matching = [document for document in numbered if compile_filter(condition).matches(document)]
        expected = in_order(matching, sort, document=lambda each: each)

        assert indexed.find(collection, condition, sort=sort) == expected
        assert indexed.find(collection, condition, sort=sort, limit=limit or 9) == expected[: limit or 9]
        assert indexed.count(collection, condition) == len(expected)


@given(documents=_DOCUMENTS, filters=st.lists(_FILTERS, min_size=1, max_size=6), sort=_SORTS)
@settings(max_examples=40)
def test_both_stores_find_the_same_in_the_same_order(
    indexed: Store, mongo: Store, documents: list[Document], filters: list[Mapping[str, Any]], sort: Sort
) -> None:
    collection = next(_collections)
    indexed.declare(collection, _INDEXES)
    for store in (indexed, mongo):
        store.batch([Insert(collection, {"_id": number, **each}) for number, each in enumerate(documents)])

    for condition in filters:
        assert indexed.find(collection, condition, sort=sort) == mongo.find(collection, condition, sort=sort)


# mongo-java-server takes null for a number or an array in `$inc` and the like: without nulls the two agree.
@given(documents=_documents(_SET, _NOT_NULL), updates=st.lists(st.tuples(_SIMPLE, _UPDATES), min_size=1, max_size=6))
@settings(max_examples=40)
def test_both_stores_change_documents_alike(
    indexed: Store, mongo: Store, documents: list[Document], updates: list[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> None:
    collection = next(_collections)
    indexed.declare(collection, [Index(((path, 1),)) for path in ("a", "b", "c.d")])
    for store in (indexed, mongo):
        store.batch([Insert(collection, {"_id": number, **each}) for number, each in enumerate(documents)])

    for condition, update in updates:
        outcomes = [_outcome(store, collection, condition, update) for store in (indexed, mongo)]
        assert outcomes[0] == outcomes[1]

    assert indexed.find(collection, {}, sort=[("_id", 1)]) == mongo.find(collection, {}, sort=[("_id", 1)])


def _outcome(store: Store, collection: str, condition: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    try:
        return store.update(collection, condition, update, sort=[("_id", 1)])
    except ValidationFailed:
        return "refused"


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), min_size=2, max_size=8))
def test_keys_sort_integers_and_floats_by_their_exact_value(numbers: list[float]) -> None:
    assert sorted(numbers, key=keys.encode) == sorted(numbers)
    for one, other in itertools.pairwise(numbers):
        assert (keys.encode(one) == keys.encode(other)) == (one == other)


@given(st.lists(st.text(), min_size=2, max_size=6))
def test_keys_sort_text_by_its_utf8(texts: list[str]) -> None:
    texts = [text for text in texts if text.isprintable() or text.isascii()]

    assert sorted(texts, key=keys.encode) == sorted(texts, key=lambda text: text.encode())
    assert sorted([[text] for text in texts], key=keys.encode) == sorted([[text] for text in texts])


@given(st.lists(_DATES, min_size=2, max_size=6))
def test_keys_sort_dates_by_time(moments: list[datetime]) -> None:
    assert sorted(moments, key=keys.encode) == sorted(moments)


def test_keys_order_types_as_mongodb_does() -> None:
    ordered = [
        None,
        float("nan"),
        float("-inf"),
        -1,
        -0.0,
        float("inf"),
        "",
        "z",
        {},
        {"a": 1},
        {"a": 1, "b": 0},
        {"b": 0},
        {"a": "text"},
        [],
        [1],
        [1, 0],
        ["a"],
        b"",
        b"z",
        b"aa",
        ObjectId("65f000000000000000000001"),
        False,
        True,
        datetime(1969, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
    ]

    assert sorted(ordered, key=keys.encode) == ordered
    assert keys.encode(0.0) == keys.encode(-0.0) == keys.encode(0)
    assert keys.encode(True) != keys.encode(1)


@given(_DOCUMENTS, st.lists(_UPDATES, min_size=1, max_size=4))
def test_a_changed_document_can_always_be_stored(documents: list[Document], updates: list[Mapping[str, Any]]) -> None:
    for document in documents:
        for update in updates:
            try:
                changed = compile_update(update).apply(decode(encode(document)))
            except ValidationFailed:
                continue
            assert decode(encode(changed)) == changed


@given(
    st.recursive(
        st.one_of(st.text(), st.integers(), st.none(), st.binary()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.one_of(st.sampled_from(["$gt", "$in", "$or", "$set", "a", "_id"]), st.text()), inner, max_size=3
            ),
        ),
        max_leaves=8,
    )
)
@settings(max_examples=300)
def test_nonsense_is_accepted_or_refused_and_never_a_crash(nonsense: Any) -> None:
    for compile_any in (compile_filter, compile_update):
        with suppress(ValidationFailed):
            compile_any(nonsense)
