"""Components: keys go in and never come out; each company has its own; every change is on record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials.audit import Audit
from credentials.components import COLLECTION, INDEXES, Component, Components
from credentials.keyring import Keyring, KeySettings, UnboundSettings
from credentials.vault import EnvelopeRejected, Vault
from flow8_core.errors import AccessDenied, Conflict, Flow8Error, NotFound, StoreUnavailable, ValidationFailed
from flow8_core.secret import Secret
from flow8_core.store import Store
from tests.credentials.conftest import ENVIRON
from tests.credentials.test_audit import Blocked
from tests.credentials.test_component_kinds import API, MAIL, R2, S3
from tests.credentials.test_key_formats import AWS_SECRET, MASKS, OPENAI
from tests.credentials.test_vault import of_older_server

# As it stands in flow8's documentation.
SEED = {
    "name": "aws-s3-prod",
    "kind": "storage",
    "config": {
        "provider": "s3",
        "bucket": "flow8-artifacts",
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    },
}


@pytest.fixture
def user_id() -> ObjectId:
    return ObjectId()


@pytest.fixture
def components(store: Store, vault: Vault, company_id: ObjectId, user_id: ObjectId) -> Components:
    return Components(store, vault, company_id, user_id=user_id)


@pytest.fixture
def others(store: Store, vault: Vault) -> Components:
    """Another company's, in the same database."""
    return Components(store, vault, ObjectId())


@pytest.fixture
def audit(store: Store, vault: Vault, company_id: ObjectId) -> Audit:
    return Audit(store, vault, company_id)


def storage(name: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "kind": "storage", "config": {**S3, **config}}


def api(name: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "kind": "request", "config": {**API, **config}}


def revealed(component: Component) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return value.reveal() if isinstance(value, Secret) else value

    shown: dict[str, Any] = plain(component.config)
    return shown


# adding


def test_the_seeds_body_passes_as_it_stands_and_answers_as_the_seed_says(components: Components):
    answer = components.add(SEED)

    assert re.fullmatch("[0-9a-f]{24}", answer.pop("id"))
    warnings = answer.pop("warnings")
    assert answer == {
        "name": "aws-s3-prod",
        "kind": "storage",
        "config_summary": {"provider": "s3", "bucket": "flow8-artifacts", "region": "us-east-1"},
        "is_default": False,
    }
    assert [warning.partition(":")[0] for warning in warnings] == [
        "config.access_key_id",
        "config.secret_access_key",
        "config.region",
    ]


def test_the_document_is_the_seeds_with_both_keys_sealed(either_store: Store, vault: Vault, company_id: ObjectId):
    answer = Components(either_store, vault, company_id).add(SEED)

    document = either_store.get(COLLECTION, ObjectId(answer["id"]))
    assert document is not None
    assert (document["name"], document["kind"], document["company_id"]) == ("aws-s3-prod", "storage", company_id)
    assert document["config"]["provider"] == "s3"
    for field in ("access_key_id", "secret_access_key"):
        assert document["config"][field]["encrypted"] is True
        assert document["config"][field]["kid"] == vault.kid
    assert revealed(Components(either_store, vault, company_id).resolve("storage")) == {
        **SEED["config"],  # type: ignore[dict-item]
        "region": "us-east-1",
    }


def test_no_secret_lies_readable_in_the_database_or_leaves_in_an_answer(
    components: Components, audit: Audit, tmp_path: Path
):
    secrets = ["wJalrXUtnFEMIcanaryAbPxRfiCYREALKEYabcde", "canary-token-991", "canary-password-7", "canary-user"]
    answers = [
        components.add(storage("a", secret_access_key=secrets[0])),
        components.add(api("b", auth={"type": "bearer", "value": secrets[1]})),
        components.add(api("c", auth={"type": "basic", "username": secrets[3], "password": secrets[2]})),
        components.update("a", {"config": {"bucket": "other"}}),
        components.set_default("b"),
        components.list(),
        components.get("c"),
        audit.query(),
    ]
    components.remove("c")

    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in secrets:
        assert secret.encode() not in written
        assert secret not in repr(answers)


def test_a_name_is_unique_in_its_company_only(components: Components, others: Components):
    components.add(SEED)
    others.add(SEED)

    with pytest.raises(Conflict, match="aws-s3-prod"):
        components.add(SEED)

    assert len(components.list()) == 1


def test_of_two_adds_of_the_same_name_at_once_one_is_a_conflict(components: Components, audit: Audit):
    def add(number: int) -> bool:
        try:
            components.add(storage("same"))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(add, range(6)))

    assert sum(outcomes) == 1
    assert len(components.list()) == 1
    assert audit.verify().ok


BODIES: dict[str, tuple[Any, str]] = {
    "none": (None, "$"),
    "list": ([], "$"),
    "text": ("{}", "$"),
    "nothing": ({}, "name"),
    "no name": ({"kind": "storage", "config": S3}, "name"),
    "no kind": ({"name": "a", "config": S3}, "kind"),
    "no config": ({"name": "a", "kind": "storage"}, "config"),
    "unknown kind": ({"name": "a", "kind": "queue", "config": S3}, "kind"),
    "kind in capitals": ({"name": "a", "kind": "Storage", "config": S3}, "kind"),
    "kind as an operator": ({"name": "a", "kind": {"$ne": ""}, "config": S3}, "kind"),
    "kind of another shape": ({"name": "a", "kind": ["storage"], "config": S3}, "kind"),
    "config as a list": ({"name": "a", "kind": "storage", "config": [S3]}, "config"),
    "config as text": ({"name": "a", "kind": "storage", "config": "{}"}, "config"),
    "config none": ({"name": "a", "kind": "storage", "config": None}, "config"),
    "a foreign company": ({**SEED, "company_id": "65f000000000000000000001"}, "$"),
    "an id of one's choice": ({**SEED, "_id": "65f000000000000000000001"}, "$"),
    "default as text": ({**SEED, "is_default": "yes"}, "is_default"),
    "default as a number": ({**SEED, "is_default": 1}, "is_default"),
    "name as a number": ({**SEED, "name": 7}, "name"),
    "name as an operator": ({**SEED, "name": {"$gt": ""}}, "name"),
    "name empty": ({**SEED, "name": ""}, "name"),
    "name of spaces": ({**SEED, "name": "   "}, "name"),
    "name with a space behind": ({**SEED, "name": "prod "}, "name"),
    "name with a line break": ({**SEED, "name": "prod\n"}, "name"),
    "name with a zero-width space": ({**SEED, "name": "pr\u200bod"}, "name"),
    "name in look-alikes": ({**SEED, "name": "рrod"}, "name"),
    "name in full width": ({**SEED, "name": "ｐrod"}, "name"),
    "name with a slash": ({**SEED, "name": "../prod"}, "name"),
    "name with a dollar": ({**SEED, "name": "$where"}, "name"),
    "name too long": ({**SEED, "name": "x" * 101}, "name"),
    "name like an id": ({**SEED, "name": "65f000000000000000000001"}, "name"),
    "swapped keys": (
        storage("a", access_key_id=AWS_SECRET, secret_access_key=S3["access_key_id"]),
        "config.secret_access_key",
    ),
    "a provider of another kind": ({"name": "a", "kind": "ai", "config": S3}, "config.provider"),
}


@pytest.mark.parametrize(("body", "path"), BODIES.values(), ids=BODIES.keys())
def test_a_bad_body_is_refused_with_its_path_and_leaves_nothing(
    components: Components, audit: Audit, body: Any, path: str
):
    with pytest.raises(ValidationFailed) as caught:
        components.add(body)

    assert caught.value.path == path
    assert AWS_SECRET not in caught.value.message
    assert components.list() == []
    assert audit.count() == 0


@pytest.mark.parametrize(
    "name", ["a", "aws-s3-prod", "S3 (old)".replace("(", "").replace(")", ""), "Büro Zürich", "v2.1_x", "x" * 100]
)
def test_a_name_people_use_is_accepted(components: Components, name: str):
    assert components.add({**SEED, "name": name})["name"] == name


def test_a_name_is_found_however_its_accents_are_written(components: Components):
    components.add({**SEED, "name": "Bu\u0308ro"})

    with pytest.raises(Conflict):
        components.add({**SEED, "name": "B\u00fcro"})

    assert components.get("Bu\u0308ro")["name"] == "B\u00fcro"


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_that_is_sent_back_is_refused(components: Components, mask: str):
    with pytest.raises(ValidationFailed, match=r"config\.secret_access_key: this is a mask"):
        components.add(storage("a", secret_access_key=mask))
    components.add(storage("b"))

    with pytest.raises(ValidationFailed, match=r"config\.secret_access_key: this is a mask"):
        components.update("b", {"config": {"secret_access_key": mask}})

    assert revealed(components.resolve("storage"))["secret_access_key"] == AWS_SECRET


# companies


def test_not_yours_and_not_there_give_the_same_answer(components: Components, others: Components, audit: Audit):
    theirs = others.add(SEED)["id"]
    actions: list[Callable[[str], Any]] = [
        components.get,
        components.remove,
        components.set_default,
        lambda reference: components.update(reference, {"config": {"bucket": "mine"}}),
        lambda reference: components.resolve("storage", id=reference),
    ]

    for action in actions:
        answers = []
        for reference in (theirs, str(ObjectId()), "aws-s3-prod", "nobody"):
            with pytest.raises((NotFound, AccessDenied)) as caught:
                action(reference)
            answers.append(caught.value.to_dict())
        assert answers == [answers[0]] * 4

    with pytest.raises(AccessDenied):
        components.resolve("storage")
    assert components.list() == []
    assert audit.count() == 0
    assert others.get(theirs)["config_summary"]["bucket"] == "flow8-artifacts"


@pytest.mark.parametrize("reference", [None, 7, {"$ne": None}, ["a"], ObjectId()])
def test_a_reference_that_is_no_text_is_refused(components: Components, reference: Any):
    components.add(SEED)

    with pytest.raises(ValidationFailed):
        components.get(reference)


@pytest.mark.parametrize("reference", ["", "component_123", "65F0", "../x", "$where", "a\x00b", "x" * 10_000])
def test_a_reference_to_nothing_is_not_found(components: Components, reference: str):
    with pytest.raises(NotFound):
        components.get(reference)


# changing


def test_an_update_keeps_the_secrets_that_are_not_sent(components: Components):
    made = components.add(storage("a", allow_public_acl=True))["id"]

    answer = components.update(made, {"name": "b", "config": {"bucket": "new-bucket", "allow_public_acl": None}})

    assert answer == {
        "id": made,
        "name": "b",
        "kind": "storage",
        "config_summary": {"provider": "s3", "bucket": "new-bucket", "region": "eu-central-1"},
        "is_default": False,
        "warnings": [],
    }
    assert revealed(components.resolve("storage", id=made)) == {**S3, "bucket": "new-bucket"}


def test_an_update_replaces_the_secrets_that_are_sent(components: Components):
    made = components.add(api("a"))["id"]

    components.update(made, {"config": {"auth": {"value": "another-token"}}})
    assert revealed(components.resolve("request"))["auth"] == {"type": "bearer", "value": "another-token"}

    components.update(made, {"config": {"auth": {"type": "header", "name": "X-Key", "value": "third-token"}}})
    assert revealed(components.resolve("request"))["auth"] == {
        "type": "header",
        "name": "X-Key",
        "value": "third-token",
    }

    components.update(made, {"config": {"auth": None}})
    assert revealed(components.resolve("request")) == {"hosts": ["api.example.com"]}


def test_another_type_of_auth_does_not_inherit_the_old_secret(components: Components):
    made = components.add(api("a"))["id"]

    with pytest.raises(ValidationFailed, match=r"config\.auth\.value"):
        components.update(made, {"config": {"auth": {"type": "query", "name": "key"}}})


REROUTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another host": (api("a"), {"hosts": ["attacker.example"]}),
    "one host more": (api("a"), {"hosts": ["api.example.com", "attacker.example"]}),
    "another endpoint": ({"name": "a", "kind": "storage", "config": R2}, {"endpoint": "https://attacker.example"}),
    "an endpoint where none was": (storage("a"), {"endpoint": "https://attacker.example"}),
    "a gateway": (
        {"name": "a", "kind": "ai", "config": {"provider": "openai", "api_key": OPENAI}},
        {"base_url": "https://attacker.example"},
    ),
    "another mail server": ({"name": "a", "kind": "email", "config": MAIL}, {"host": "attacker.example"}),
    "without encryption": ({"name": "a", "kind": "email", "config": MAIL}, {"security": "none"}),
    "one of two secrets": (storage("a"), {"endpoint": "https://attacker.example", "access_key_id": "another-id-123"}),
}


@pytest.mark.parametrize(("body", "changes"), REROUTED.values(), ids=REROUTED.keys())
def test_a_stored_secret_does_not_follow_to_another_destination(
    components: Components, body: dict[str, Any], changes: dict[str, Any]
):
    made = components.add(body)["id"]

    with pytest.raises(ValidationFailed, match="must be sent again"):
        components.update(made, {"config": changes})


def test_a_destination_may_change_together_with_the_secret_or_shrink_alone(components: Components):
    made = components.add(api("a", hosts=["a.example.com", "b.example.com"]))["id"]

    components.update(made, {"config": {"hosts": ["b.example.com"]}})
    components.update(made, {"config": {"hosts": ["c.example.com"], "auth": {"value": "new-token-1"}}})

    assert revealed(components.resolve("request")) == {
        "hosts": ["c.example.com"],
        "auth": {"type": "bearer", "value": "new-token-1"},
    }


def test_a_simultaneous_change_is_a_conflict_and_loses_nothing(
    store: Store, components: Components, vault: Vault, company_id: ObjectId
):
    made = components.add(storage("a"))["id"]

    class Interrupted:
        """Another change lands between the look and the write."""

        def __init__(self) -> None:
            self.waiting = True

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def update(self, *args: Any, **options: Any) -> Any:
            if self.waiting:
                self.waiting = False
                components.update(made, {"config": {"bucket": "first"}})
            return store.update(*args, **options)

    late = Components(Interrupted(), vault, company_id)  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        late.update(made, {"config": {"bucket": "second", "region": "eu-west-1"}})

    assert components.get(made)["config_summary"] == {"provider": "s3", "bucket": "first", "region": "eu-central-1"}


def test_a_rename_to_a_taken_name_is_a_conflict(components: Components):
    components.add(storage("a"))
    components.add(storage("b"))

    with pytest.raises(Conflict):
        components.update("b", {"name": "a"})

    components.update("b", {"name": "b"})
    assert [row["name"] for row in components.list()] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"kind": "ai"}, "$"),
        ({"company_id": "x"}, "$"),
        ({"config": []}, "config"),
        ({"config": None}, "config"),
        ({"name": ""}, "name"),
        ({"config": {"bucket": None}}, "config.bucket"),
        ({"config": {"secret_access_key": None}}, "config.secret_access_key"),
        ({"config": {"secret_access_key": ""}}, "config.secret_access_key"),
        ({"config": {"$set": {"bucket": "x"}}}, "config.?"),
    ],
)
def test_a_bad_change_is_refused_and_changes_nothing(components: Components, store: Store, body: Any, path: str):
    components.add(storage("a"))
    before = store.find(COLLECTION, {})

    with pytest.raises(ValidationFailed) as caught:
        components.update("a", body)

    assert caught.value.path == path
    assert store.find(COLLECTION, {}) == before


def test_a_secret_that_no_longer_opens_can_be_replaced(store: Store, components: Components):
    made = components.add(storage("a"))["id"]
    store.update(COLLECTION, {"_id": ObjectId(made)}, {"$set": {"config.secret_access_key.nonce": "AAAA"}})
    with pytest.raises(EnvelopeRejected):
        components.update(made, {"config": {"bucket": "other"}})

    components.update(made, {"config": {"secret_access_key": "N" * 40}})

    assert revealed(components.resolve("storage"))["secret_access_key"] == "N" * 40


def test_auth_that_no_longer_opens_can_be_taken_out(store: Store, components: Components):
    made = components.add(api("a"))["id"]
    store.update(COLLECTION, {"_id": ObjectId(made)}, {"$set": {"config.auth.value.kid": "0" * 16}})

    components.update(made, {"config": {"auth": None}})

    assert revealed(components.resolve("request")) == {"hosts": ["api.example.com"]}


def test_a_removed_component_is_gone(components: Components):
    made = components.add(storage("a"))["id"]

    components.remove(made)

    with pytest.raises(NotFound):
        components.remove(made)
    with pytest.raises(AccessDenied):
        components.resolve("storage", id=made)


# defaults


def test_a_component_becomes_the_default_only_when_it_is_made_one(components: Components):
    components.add(storage("a"))
    components.add({**storage("b"), "is_default": True})
    components.add({**api("c"), "is_default": True})
    assert {row["name"]: row["is_default"] for row in components.list()} == {"a": False, "b": True, "c": True}

    answer = components.set_default("a")

    assert answer["is_default"] is True
    assert {row["name"]: row["is_default"] for row in components.list()} == {"a": True, "b": False, "c": True}
    assert {row["name"]: row["is_default"] for row in components.list("storage")} == {"a": True, "b": False}
    assert components.get("b")["is_default"] is False


def test_there_is_a_default_at_every_moment_of_a_switch_and_only_one(
    store: Store, components: Components, vault: Vault, company_id: ObjectId
):
    """Looked at after each single write, as another process would."""
    components.add({**storage("a"), "is_default": True})
    components.add(storage("b"))
    seen: list[tuple[str, list[str]]] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def update(self, *args: Any, **options: Any) -> Any:
            result = store.update(*args, **options)
            marked = [row["name"] for row in components.list() if row["is_default"]]
            seen.append((components.resolve("storage").name, marked))
            return result

    Components(Watched(), vault, company_id).set_default("b")  # type: ignore[arg-type]

    assert seen == [("b", ["b"]), ("b", ["b"])]
    assert store.count(COLLECTION, {"is_default": True}) == 1


def test_simultaneous_switches_end_with_one_default(store: Store, components: Components):
    names = [f"s{number}" for number in range(6)]
    for name in names:
        components.add(storage(name))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(components.set_default, names * 2))

    marked = [row["name"] for row in components.list() if row["is_default"]]
    assert marked == [components.resolve("storage").name]
    assert store.count(COLLECTION, {"is_default": True}) == 1


# resolving


def test_a_step_gets_the_component_that_it_names_else_the_default_else_the_only_one(components: Components):
    with pytest.raises(AccessDenied, match="no component of kind storage; add one"):
        components.resolve("storage")
    first = components.add(storage("first"))["id"]
    assert components.resolve("storage").name == "first"

    second = components.add(storage("second"))["id"]
    with pytest.raises(Conflict, match=r"first, second|second, first"):
        components.resolve("storage")

    components.set_default(second)
    assert components.resolve("storage").name == "second"
    assert components.resolve("storage", id=first).name == "first"
    assert components.resolve("storage", id="first").id == first


def test_only_components_of_the_wanted_provider_come_into_question(components: Components):
    components.add(
        {"name": "open", "kind": "ai", "config": {"provider": "openai", "api_key": OPENAI}, "is_default": True}
    )
    components.add({"name": "mist", "kind": "ai", "config": {"provider": "mistral", "api_key": "a1B2c3D4" * 4}})

    assert components.resolve("ai").name == "open"
    assert components.resolve("ai", provider="mistral").name == "mist"
    with pytest.raises(AccessDenied, match="component of kind ai with provider anthropic"):
        components.resolve("ai", provider="anthropic")
    with pytest.raises(
        ValidationFailed, match="provider openai; the step needs a component of kind ai with provider mistral"
    ):
        components.resolve("ai", id="open", provider="mistral")


def test_a_named_component_of_another_kind_is_the_authors_mistake(components: Components):
    components.add(api("a"))

    with pytest.raises(ValidationFailed) as caught:
        components.resolve("storage", id="a")

    assert caught.value.path == "component_config_ids.storage"


def test_resolving_takes_one_read(store: Store, components: Components, vault: Vault, company_id: ObjectId):
    made = components.add({**storage("a"), "is_default": True})["id"]
    calls: list[str] = []

    class Listening:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(store, name)

    listening = Components(Listening(), vault, company_id)  # type: ignore[arg-type]
    listening.resolve("storage")
    listening.resolve("storage", id=made)

    assert calls == ["find", "find"]


def test_a_resolved_component_does_not_print_its_secrets(components: Components):
    components.add(storage("a"))

    component = components.resolve("storage")

    assert AWS_SECRET not in repr(component)
    with pytest.raises(TypeError):
        json.dumps(component.config)


def test_a_secret_moved_from_another_component_does_not_open(store: Store, components: Components, others: Components):
    """A database writer gives his own component the keys of another company's."""
    mine, theirs = components.add(storage("a"))["id"], others.add(storage("a", bucket="theirs"))["id"]
    document = store.get(COLLECTION, ObjectId(theirs))
    assert document is not None

    store.update(COLLECTION, {"_id": ObjectId(mine)}, {"$set": {"config": document["config"]}})

    with pytest.raises(EnvelopeRejected):
        components.resolve("storage")


@pytest.mark.parametrize("planted", ["AKIAPLANTEDPLANTED22", None, 7, ["x"], {}])
def test_a_readable_value_in_a_secrets_place_is_not_used(store: Store, components: Components, planted: Any):
    made = components.add(storage("a"))["id"]

    store.update(COLLECTION, {"_id": ObjectId(made)}, {"$set": {"config.access_key_id": planted}})

    with pytest.raises(EnvelopeRejected):
        components.resolve("storage")


# a database shared with an older server


def older(company_id: ObjectId, **fields: Any) -> dict[str, Any]:
    """As the Go server writes it: no version, unbound envelopes, fields that we do not know."""
    config = {
        "provider": "s3",
        "bucket": "b-1",
        "access_key_id": of_older_server("AKIAIOSFODNN7REALKEY"),
        "secret_access_key": of_older_server(AWS_SECRET),
        "path_style": True,
        "vendor_key": of_older_server("x-1"),
    }
    return {"_id": ObjectId(), "company_id": company_id, "name": "old", "kind": "storage", "config": config, **fields}


@pytest.fixture
def sharing(store: Store, company_id: ObjectId) -> Components:
    settings = KeySettings(kdf="scrypt", unbound=UnboundSettings(kdf="scrypt"))
    return Components(store, Vault(Keyring.derive(settings, ENVIRON)), company_id)


def test_an_older_servers_component_is_read_listed_and_made_the_default(
    store: Store, sharing: Components, company_id: ObjectId
):
    store.insert(COLLECTION, older(company_id, is_default=True))
    sharing.add(storage("new"))

    assert revealed(sharing.resolve("storage"))["secret_access_key"] == AWS_SECRET
    assert revealed(sharing.resolve("storage"))["vendor_key"] == "x-1"
    assert [(row["name"], row["config_summary"].get("vendor_key"), row["is_default"]) for row in sharing.list()] == [
        ("new", None, False),
        ("old", None, True),
    ]
    sharing.set_default("new")
    assert sharing.resolve("storage").name == "new"
    sharing.set_default("old")
    assert sharing.resolve("storage").name == "old"


def test_an_older_servers_component_is_bound_by_its_first_update(
    store: Store, sharing: Components, company_id: ObjectId
):
    document = older(company_id)
    for name in ("path_style", "vendor_key"):
        del document["config"][name]
    store.insert(COLLECTION, document)

    sharing.update("old", {"config": {"region": "eu-west-1"}})
    sharing.update("old", {"config": {"bucket": "b-2"}})

    row = store.get(COLLECTION, document["_id"])
    assert row is not None
    assert row["config"]["secret_access_key"]["v"] == 2
    assert revealed(sharing.resolve("storage"))["secret_access_key"] == AWS_SECRET


def test_a_component_of_a_kind_that_we_do_not_know_shows_nothing(
    store: Store, sharing: Components, company_id: ObjectId
):
    store.insert(COLLECTION, older(company_id, kind="queue"))

    assert sharing.list()[0]["config_summary"] == {}


# the record


def test_every_change_is_recorded_without_a_secret(components: Components, audit: Audit, user_id: ObjectId):
    made = components.add({**storage("a"), "is_default": True})["id"]
    components.update("a", {"name": "b", "config": {"bucket": "other", "secret_access_key": "N" * 40}})
    components.remove("b")

    events = list(reversed(audit.query()))
    assert [event["action_type"] for event in events] == [
        "component_created",
        "component_default_changed",
        "component_updated",
        "component_deleted",
    ]
    assert {(event["resource_type"], event["resource_id"], event["user_id"]) for event in events} == {
        ("component", made, str(user_id))
    }
    config = {"provider": "s3", "bucket": "files", "region": "eu-central-1"}
    assert events[0]["after_state"] == {"name": "a", "kind": "storage", "config": config}
    assert events[1]["after_state"] == {"kind": "storage", "default": "a"}
    assert events[2]["before_state"] == events[0]["after_state"]
    assert events[2]["after_state"] == {
        "name": "b",
        "kind": "storage",
        "config": {**config, "bucket": "other"},
        "changed": ["name", "config.bucket", "config.secret_access_key"],
    }
    assert events[3]["before_state"]["name"] == "b"
    assert audit.verify().ok


CHANGES: dict[str, Callable[[Components], Any]] = {
    "add": lambda components: components.add(storage("new")),
    "update": lambda components: components.update("a", {"config": {"bucket": "new"}}),
    "remove": lambda components: components.remove("a"),
    "set_default": lambda components: components.set_default("a"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_cannot_be_recorded_does_not_happen(
    store: Store, components: Components, vault: Vault, company_id: ObjectId, change: Callable[[Components], Any]
):
    components.add(storage("a"))
    before = store.find(COLLECTION, {})
    blocked: Any = Blocked(store, StoreUnavailable("down"))

    with pytest.raises(StoreUnavailable):
        change(Components(blocked, vault, company_id))

    assert store.find(COLLECTION, {}) == before


def test_a_change_that_fails_after_it_was_recorded_is_recorded_as_failed(
    store: Store, components: Components, vault: Vault, company_id: ObjectId, audit: Audit
):
    components.add(storage("a"))

    class Vanishing:
        """The component disappears between the look and the delete."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def delete(self, collection: str, wanted: Any) -> None:
            store.delete(collection, wanted)

    with pytest.raises(Flow8Error):
        Components(Vanishing(), vault, company_id).remove("a")  # type: ignore[arg-type]

    failed, announced = audit.query(limit=2)
    assert (announced["action_type"], announced.get("error_type")) == ("component_deleted", None)
    assert (failed["action_type"], failed["error_type"]) == ("component_deleted", "not_found")


def test_the_indexes_keep_names_apart_within_a_company():
    assert any(index.unique and index.keys == (("company_id", 1), ("name", 1)) for index in INDEXES)
