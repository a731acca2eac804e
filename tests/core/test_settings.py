"""Settings: who beats whom, what may stand in the file, and faults that name their key and never their value."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from flow8_core import redaction, settings, strict_yaml
from flow8_core.errors import ValidationFailed

CANARY = "canary-value-1234"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Egress(Section):
    allow: tuple[str, ...] = ()
    ca_file: Path | None = None
    connect_timeout_s: float = Field(default=5.0, gt=0)


class App(Section):
    client_id: str
    client_secret: str = ""
    scopes: tuple[str, ...] = ()
    replay: Literal["single_use", "grace"] = "grace"


class Whole(Section):
    public_url: str = "http://127.0.0.1:4454"
    store: str = "sqlite:///flow8.db"
    broker: str | None = None
    egress: Egress = Egress()
    oauth2: dict[str, App] = {}

    @field_validator("public_url")
    @classmethod
    def _with_scheme(cls, value: str) -> str:
        if "://" not in value:
            raise ValueError(f"{value} has no scheme")
        return value


def load(cwd: Path, *, yaml: str | None = None, env: str | None = None, environ: dict[str, str] | None = None) -> Whole:
    if yaml is not None:
        (cwd / "flow8.yaml").write_text(yaml)
    if env is not None:
        (cwd / ".env").write_text(env)
    return settings.load(Whole, environ=environ or {}, cwd=cwd)


def faults(
    cwd: Path, *, yaml: str | None = None, env: str | None = None, environ: dict[str, str] | None = None
) -> dict[str, str]:
    with pytest.raises(ValidationFailed) as raised:
        load(cwd, yaml=yaml, env=env, environ=environ)
    assert CANARY not in str(raised.value)
    assert CANARY not in repr(raised.value.problems)
    assert raised.value.path == raised.value.problems[0][0]
    return dict(raised.value.problems)


# ---- who beats whom --------------------------------------------------------------------------------------------------


def test_without_any_file_the_defaults_stand(tmp_path: Path) -> None:
    assert load(tmp_path) == Whole()


def test_the_environment_beats_the_env_file_which_beats_the_yaml_file(tmp_path: Path) -> None:
    yaml = "store: yaml\nbroker: yaml\npublic_url: yaml://\n"
    env = "FLOW8_STORE=dotenv\nFLOW8_BROKER=dotenv\n"

    got = load(tmp_path, yaml=yaml, env=env, environ={"FLOW8_STORE": "environ"})

    assert (got.store, got.broker, got.public_url) == ("environ", "dotenv", "yaml://")


def test_a_variable_replaces_one_key_of_a_section_and_leaves_the_others(tmp_path: Path) -> None:
    yaml = "egress: {allow: ['a:1'], ca_file: ca.pem}\noauth2: {slack: {client_id: one, replay: single_use}}\n"
    environ = {
        "FLOW8_EGRESS__ALLOW": '["b:2", "c:3"]',
        "FLOW8_EGRESS__CONNECT_TIMEOUT_S": "2.5",
        "FLOW8_OAUTH2__SLACK__CLIENT_ID": "two",
        "FLOW8_OAUTH2__ACME__CLIENT_ID": "three",
        "FLOW8_OAUTH2__ACME__SCOPES": '["openid"]',
    }

    got = load(tmp_path, yaml=yaml, environ=environ)

    assert got.egress == Egress(allow=("b:2", "c:3"), ca_file=Path("ca.pem"), connect_timeout_s=2.5)
    assert got.oauth2["slack"] == App(client_id="two", replay="single_use")
    assert got.oauth2["acme"] == App(client_id="three", scopes=("openid",))


def test_a_whole_section_may_come_as_json(tmp_path: Path) -> None:
    got = load(tmp_path, yaml="egress: {ca_file: ca.pem}", environ={"FLOW8_EGRESS": '{"allow": ["a:1"]}'})

    assert got.egress == Egress(allow=("a:1",), ca_file=Path("ca.pem"))


def test_a_variable_set_to_nothing_is_not_set(tmp_path: Path) -> None:
    assert load(tmp_path, yaml="store: yaml", environ={"FLOW8_STORE": ""}).store == "yaml"


def test_nothing_is_read_from_this_process_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW8_STORE", "ambient")
    monkeypatch.setenv("AMBIENT", "ambient")

    assert load(tmp_path, env="FLOW8_BROKER=${AMBIENT}\n") == Whole(broker="${AMBIENT}")


# ---- which file ------------------------------------------------------------------------------------------------------


def test_the_file_may_be_named_by_a_variable_or_an_argument(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("store: one")
    (tmp_path / "two.yaml").write_text("store: two")
    (tmp_path / "flow8.yaml").write_text("store: default")

    by_environ = load(tmp_path, environ={"FLOW8_CONFIG": "one.yaml"})
    by_dotenv = load(tmp_path, env="FLOW8_CONFIG=two.yaml\n")
    by_argument = settings.load(Whole, environ={}, cwd=tmp_path, config_path=tmp_path / "one.yaml")

    assert (by_environ.store, by_dotenv.store, by_argument.store) == ("one", "two", "one")


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert "is not there" in faults(tmp_path, environ={"FLOW8_CONFIG": "gone.yaml"})["gone.yaml"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"store: \xe9"])
def test_a_file_that_is_not_utf8_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "flow8.yaml").write_bytes(content)

    assert "UTF-8" in faults(tmp_path)["flow8.yaml"]


def test_a_byte_order_mark_and_an_empty_file_are_fine(tmp_path: Path) -> None:
    (tmp_path / "flow8.yaml").write_bytes(b"\xef\xbb\xbfstore: x")
    assert load(tmp_path).store == "x"

    assert load(tmp_path, yaml="# nothing\n") == Whole()


@pytest.mark.parametrize("yaml", ["- a\n- list", "just text", "42"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path, yaml: str) -> None:
    assert "mapping" in faults(tmp_path, yaml=yaml)["flow8.yaml"]


# ---- expansion -------------------------------------------------------------------------------------------------------


def test_references_are_replaced_from_the_environment_and_the_env_file(tmp_path: Path) -> None:
    yaml = "store: mongodb://${USER_NAME}:${PASS}@db/${DB}\noauth2: {slack: {client_id: '${ID}', scopes: ['${ID}']}}\n"

    got = load(tmp_path, yaml=yaml, env="ID=dotenv\nDB=dotenv\nUSER_NAME=u\n", environ={"DB": "environ", "PASS": "pw"})

    assert got.store == "mongodb://u:pw@db/environ"
    assert got.oauth2["slack"] == App(client_id="dotenv", scopes=("dotenv",))


def test_dollars_that_begin_no_reference_stay_and_an_escaped_one_is_plain(tmp_path: Path) -> None:
    got = load(tmp_path, yaml="store: 'a$b $$ $1 $${HOME} ${X}$'", environ={"X": "${Y}", "Y": "no"})

    assert got.store == "a$b $$ $1 ${HOME} ${Y}$"


def test_all_missing_variables_are_named_with_the_keys_that_need_them(tmp_path: Path) -> None:
    yaml = "store: ${GONE}\noauth2: {slack: {client_id: x, scopes: [a, '${ALSO_GONE}']}}\nbroker: '${not a name}'\n"

    found = faults(tmp_path, yaml=yaml)

    assert "GONE" in found["store"]
    assert "ALSO_GONE" in found["oauth2.slack.scopes[1]"]
    assert "$${" in found["broker"]


def test_a_reference_without_an_end_is_an_error(tmp_path: Path) -> None:
    assert "$${" in faults(tmp_path, yaml=f"store: 'x ${{{CANARY}'")["store"]


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_every_fault_is_reported_at_once_by_its_path_and_without_its_value(tmp_path: Path) -> None:
    yaml = f"""
stroe: {CANARY}
public_url: {CANARY}
egress: {{allow: {CANARY}, alow: [x], connect_timeout_s: 0}}
oauth2: {{slack: {{client_secret: {CANARY}, replay: {CANARY}}}, acme: {CANARY}}}
"""

    found = faults(tmp_path, yaml=yaml, environ={"FLOW8_OAUTH2__BEXIO__CLIENT_IDD": CANARY})

    assert found["stroe"] == "is no setting; did you mean store?"
    assert found["egress.alow"] == "is no setting"
    assert found["oauth2.bexio.client_idd"] == "is no setting"
    assert set(found) == {
        "stroe",
        "public_url",
        "egress.allow",
        "egress.alow",
        "egress.connect_timeout_s",
        "oauth2.slack.client_id",
        "oauth2.slack.replay",
        "oauth2.acme",
        "oauth2.bexio.client_id",
        "oauth2.bexio.client_idd",
    }


@pytest.mark.parametrize("value", ["[not json", "{", "a:1,b:2"])
def test_a_list_that_is_not_json_names_the_variable(tmp_path: Path, value: str) -> None:
    found = faults(tmp_path, environ={"FLOW8_EGRESS__ALLOW": value + CANARY})

    assert "FLOW8_EGRESS" in found["egress"]


def test_variables_that_nearly_name_a_setting_are_refused_and_others_are_not_ours(tmp_path: Path) -> None:
    kubernetes = {"FLOW8_PORT": "tcp://10.0.0.1:4454", "FLOW8_SERVICE_HOST": "10.0.0.1", "FLOW8_PORT_4454_TCP": "x"}
    others = {"FLOW8_CONFIG": "", "FLOW8_HOME": "/tmp", "FLOW8_COMPANY": "x", "FLOW8_CRASH_AT": "", "OTHER__X": "1"}
    assert load(tmp_path, environ=kubernetes | others) == Whole()

    found = faults(tmp_path, environ={"FLOW8_PUBLIC_URI": CANARY, "FLOW8_EGRES__ALLOW": "[]", "FLOW8_NO__WAY": "1"})

    assert found == {
        "FLOW8_PUBLIC_URI": "is no setting; FLOW8_PUBLIC_URL is",
        "FLOW8_EGRES__ALLOW": "is no setting; FLOW8_EGRESS is",
        "FLOW8_NO__WAY": "is no setting",
    }


# ---- YAML ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yaml", "where"),
    [
        (f"store: a\nstore: {CANARY}\n", "flow8.yaml:2:1"),
        (f"egress:\n  allow: []\n  allow: [{CANARY}]\n", "flow8.yaml:3:3"),
        (f"a: [{{x: 1, x: {CANARY}}}]", "flow8.yaml:1:12"),
        ("1: a\n0x1: b", "flow8.yaml:2:1"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, yaml: str, where: str) -> None:
    assert faults(tmp_path, yaml=yaml) == {where: "this key stands twice in the same mapping"}


@pytest.mark.parametrize(
    "yaml",
    [
        f"store: *{CANARY}",
        f"store: !{CANARY} x",
        f"store: !!python/object/apply:os.system ['{CANARY}']",
        f"store: [{CANARY}",
        f"store: '{CANARY}",
        f"\tstore: {CANARY}",
        f"store: x\n  {CANARY}: y",
        f"store: {CANARY}\n--- \nstore: two documents",
        f"? [{CANARY}]\n: x",
        f"store: {CANARY}\x00",
        "x: " + "[" * 3000,
        "date: 2026-13-45",
    ],
)
def test_yaml_that_cannot_be_read_names_the_place_and_shows_no_text(tmp_path: Path, yaml: str) -> None:
    ((where, message),) = faults(tmp_path, yaml=yaml).items()

    assert where.startswith("flow8.yaml")
    assert message == "this is not YAML that can be read"


def test_merge_keys_and_equal_keys_in_different_mappings_are_fine() -> None:
    text = "base: &base {a: 1, b: 2}\none: {<<: *base, b: 3}\ntwo: {<<: *base}\n"

    assert strict_yaml.parse(text, name="x")["one"] == {"a": 1, "b": 3}


@given(st.text(max_size=80))
def test_no_text_whatever_makes_the_reader_fail_in_another_way(text: str) -> None:
    try:
        strict_yaml.parse(text, name="x")
    except ValidationFailed as error:
        assert error.path is not None  # noqa: PT017  # it may, but need not, be refused


# ---- the environment for secrets -------------------------------------------------------------------------------------


def test_the_environment_for_secrets_has_the_process_over_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# keys\nENC_KEY_SECRET='from file'\nexport ENV_KEY_SALT=salt # why\n\nPLAIN=${HOME}\n"
    )

    got = settings.environment({"ENC_KEY_SECRET": "from process"}, tmp_path)

    assert got == {"ENC_KEY_SECRET": "from process", "ENV_KEY_SALT": "salt", "PLAIN": "${HOME}"}


@pytest.mark.parametrize("line", [CANARY, f"A B={CANARY}", f"X='{CANARY}", f"={CANARY}"])
def test_a_line_of_the_env_file_that_cannot_be_read_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    assert faults(tmp_path, env=f"GOOD=1\n{line}\n") == {".env:2": "this line is not NAME=value"}


def test_secrets_of_the_configuration_are_known_to_the_log_redaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "_registry", redaction.Registry(max_age_s=0.0))
    yaml = "store: mongodb://u:store%2Fpass@db/x\noauth2: {slack: {client_id: public-id, client_secret: in-yaml-1}}\n"
    environ = {"ENC_KEY_SECRET_NEXT": "key-material", "SOME_PASSWORD": "pass-word", "PUBLIC": "public-value"}

    load(tmp_path, yaml=yaml, environ=environ)
    scrubbed = redaction.scrub("key-material, pass-word, in-yaml-1, store%2Fpass, store/pass, public-value, public-id")

    assert scrubbed == "[secret], [secret], [secret], [secret], [secret], public-value, public-id"
