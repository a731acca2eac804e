"""The tree in the docstring is the tree of the classes, and the codes are those that callers were promised."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from flow8_core import errors
from flow8_core.errors import Flow8Error, ValidationFailed

PROMISED = """
    invalid_grant insufficient_scope token_revoked rate_limit_exceeded access_denied validation_error not_found conflict
    invalid_credentials quota_exceeded provider_misconfigured provider_unavailable provider_rejected vendor_bad_response
    outcome_unknown refresh_busy egress_denied execution_timeout store_unavailable cancelled dead_letter internal_error
"""
CODES = set(PROMISED.split())
GROUPS = {errors.StepError, errors.LinkError, errors.AppError, errors.ProviderError, errors.PlatformError}
CLASSES = {
    cls.__name__: cls
    for cls in vars(errors).values()
    if inspect.isclass(cls) and issubclass(cls, Flow8Error) and cls.__module__ == errors.__name__
}
LEAVES = [cls for cls in CLASSES.values() if cls not in GROUPS and cls is not Flow8Error]
ROW = re.compile(r"^ {4}(?P<indent>[| ]*)(?:(?:\|-|`-) )?(?P<name>[A-Z]\w+)(?: +(?P<rest>.*))?$")


def drawn() -> dict[str, tuple[str, str]]:
    """name -> (its parent as drawn, the text beside it)."""
    found: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        row = ROW.match(line)
        if row is None:
            continue
        depth = 0 if row["name"] == "Flow8Error" else len(row["indent"]) // 3 + 1
        above[depth:] = [row["name"]]
        found[row["name"]] = (above[depth - 1] if depth else "Exception", row["rest"] or "")
    return found


def test_the_tree_as_drawn_is_the_tree_of_the_classes() -> None:
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        name: cls.__bases__[0].__name__ for name, cls in CLASSES.items()
    }


def test_each_code_and_each_reconnect_stands_beside_its_class() -> None:
    for name, (_, text) in drawn().items():
        cls = CLASSES[name]
        if cls in GROUPS:
            assert f'door "{cls.door}"' in text
        elif cls is not Flow8Error:
            assert text.split()[0] == cls.code
            if "(reconnect)" in text:
                assert cls.reconnect


def test_the_codes_are_those_that_were_promised_and_each_has_one_class() -> None:
    codes = [cls.code for cls in LEAVES if cls not in (errors.TokenExpired, errors.AppBlocked)]

    assert set(codes) == CODES
    assert len(codes) == len(CODES)
    assert errors.TokenExpired.code == errors.TokenRevoked.code
    assert errors.AppBlocked.code == errors.ProviderMisconfigured.code


@pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)
def test_every_leaf_is_documented_and_says_whose_door_it_is_at(cls: type[Flow8Error]) -> None:
    assert "__doc__" in vars(cls)
    assert (cls.__doc__ or "").strip().endswith((".", "`"))
    assert cls.door in {"link", "app", "provider", "step", "us"}
    assert not (cls.retryable and cls.reconnect), "what a person must mend is not mended by trying again"
    assert not cls.reconnect or cls.door == "link"


def test_what_is_retried_is_what_time_can_mend() -> None:
    assert {cls.code for cls in LEAVES if cls.retryable} == {
        "execution_timeout",
        "rate_limit_exceeded",
        "provider_unavailable",
        "vendor_bad_response",
        "refresh_busy",
        "store_unavailable",
    }


def test_an_error_shows_as_the_promised_shape() -> None:
    error = errors.RateLimited("Slack asks for patience.", retry_after=30.0, step="notify", link_id="65f0")

    assert error.to_dict() == {
        "code": "rate_limit_exceeded",
        "message": "Slack asks for patience.",
        "retryable": True,
        "reconnect": False,
        "retry_after": 30.0,
        "door": "provider",
        "step": "notify",
        "link_id": "65f0",
    }
    assert errors.ValidationFailed("no", path="a.b").to_dict()["path"] == "a.b"


def test_a_message_is_cut_to_a_length_that_no_body_of_a_vendor_hides_in() -> None:
    error = errors.ProviderRejected("x" * 5000)

    assert len(error.message) == len(str(error)) == errors.MESSAGE_LIMIT


def test_several_faults_are_one_error_with_the_path_of_the_first() -> None:
    error = ValidationFailed.from_problems([("a", "is missing"), ("b[1]", "is no number")])

    assert error.path == "a"
    assert error.problems == (("a", "is missing"), ("b[1]", "is no number"))
    assert error.message == "a: is missing; b[1]: is no number"


def test_a_single_fault_is_its_own_only_problem() -> None:
    assert ValidationFailed("is missing", path="a").problems == (("a", "is missing"),)
    assert ValidationFailed("is no JSON").problems == (("$", "is no JSON"),)


@pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)
def test_an_error_survives_the_way_out_of_a_worker_process(cls: type[Flow8Error]) -> None:
    error = cls("says what to do", path="a", retry_after=2.0, ambiguous=True, service="slack")

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is cls
    assert copy.to_dict() == error.to_dict()
    assert (copy.ambiguous, copy.service) == (True, "slack")
