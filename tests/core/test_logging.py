"""Log lines have flow8's fields and no secrets; what cannot be made safe is not written."""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bson import ObjectId

from flow8_core import errors, log_canaries, redaction
from flow8_core import logging as flow8_logging
from flow8_core.log_lines import FIELDS, TextLines
from flow8_core.logging import DROPPED, PINNED, Redacting, RedactionBroken, configure, get_logger
from flow8_core.secret import Secret
from tests import environment

CANARY = "canary-hunter2-and-more"


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.raiseExceptions)
    formatters = {handler: handler.formatter for handler in flow8_logging.handlers()}
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)

    yield

    root.handlers[:], root.level, logging.raiseExceptions = before
    root.manager._clear_cache()
    for handler, formatter in formatters.items():
        handler.setFormatter(formatter)
    for name in PINNED:
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def canary() -> str:
    redaction.register(CANARY)
    return CANARY


@pytest.fixture
def attach() -> Iterator[Callable[[logging.Handler], logging.Logger]]:
    """Gives a handler a logger of its own for the time of the test."""
    logger = logging.getLogger("somebody.with.a.handler")

    def to_logger(handler: logging.Handler) -> logging.Logger:
        logger.addHandler(handler)
        return logger

    yield to_logger

    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


# ---- what a line looks like ------------------------------------------------------------------------------------------


def test_a_line_is_one_json_object_with_flow8s_fields_first(out: io.StringIO) -> None:
    configure(stream=out)

    get_logger("flow8.links").info("link refreshed", link_id=ObjectId("65f0c0ffee65f0c0ffee0001"), duration_ms=31)

    (line,) = lines(out)
    assert list(line) == ["timestamp", "level", "component", "message", "link_id", "duration_ms"]
    assert str(line.pop("timestamp")).endswith("+00:00")
    assert line == {
        "level": "info",
        "component": "flow8.links",
        "message": "link refreshed",
        "link_id": "65f0c0ffee65f0c0ffee0001",
        "duration_ms": 31,
    }


def test_a_library_that_knows_only_the_standard_logging_gives_the_same_fields(out: io.StringIO) -> None:
    configure(stream=out)

    logging.getLogger("somebody").warning("late by %d s", 3)

    (line,) = lines(out)
    assert (line["level"], line["component"], line["message"]) == ("warning", "somebody", "late by 3 s")


def test_a_caller_cannot_forge_the_fields_of_a_line(out: io.StringIO) -> None:
    configure(stream=out)

    get_logger("flow8").info("plain\n{}", component="other", timestamp="never", message="other")

    (line,) = lines(out)
    assert line["component"] == "flow8"
    assert line["message"] == "plain\n{}"
    assert line["timestamp"] != "never"


def test_what_is_bound_is_part_of_each_line_and_of_no_other_loggers(out: io.StringIO) -> None:
    configure(stream=out)
    log = get_logger("flow8")

    log.bind(play_id="p1", step="a").info("step done", step="b")
    log.info("another")

    assert [(line.get("play_id"), line.get("step")) for line in lines(out)] == [("p1", "b"), (None, None)]


def test_on_a_terminal_a_line_has_colours_and_a_trace_below() -> None:
    record = log_canaries._record("failed", (), exc_info=(ValueError, ValueError("odd"), None))
    setattr(record, FIELDS, {"attempts": 2, "note": "two words"})

    first, *trace = TextLines(colours=True).format(record).splitlines()

    assert "\x1b[31mcritical\x1b[0m" in first
    assert re.sub(r"\x1b\[\d+m", "", first).endswith("critical failed attempts=2 note='two words' [flow8]")
    assert trace == ["ValueError: odd"]


def test_on_a_terminal_the_line_is_text(out: io.StringIO) -> None:
    configure(stream=out, json=False)

    get_logger("flow8").warning("link refreshed", attempts=2)

    assert "link refreshed" in out.getvalue()
    assert "attempts=2" in out.getvalue()
    assert "{" not in out.getvalue()


def test_the_level_is_kept_and_an_unknown_one_is_refused(out: io.StringIO) -> None:
    configure(stream=out, level="warning")
    get_logger("flow8").info("not this")
    get_logger("flow8").warning("this")

    assert [line["message"] for line in lines(out)] == ["this"]
    with pytest.raises(errors.ValidationFailed):
        configure(level="LOUD")


def test_configuring_twice_writes_each_line_once(out: io.StringIO) -> None:
    configure(stream=out)
    configure(stream=out)

    get_logger("flow8").info("once")

    assert len(lines(out)) == 1


# ---- nothing secret comes out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [True, False])
def test_a_secret_is_masked_wherever_it_stands_in_a_record(out: io.StringIO, canary: str, as_json: bool) -> None:
    configure(stream=out, json=as_json, level="DEBUG")
    log, plain = get_logger("flow8"), logging.getLogger("somebody")

    log.info(f"message {canary}", value=canary, nested={"deep": [{"er": (canary, canary.encode())}]}, **{canary: 1})
    log.info("positional %s%s", canary[:9], canary[9:])
    log.info("wrapped", token=Secret(canary), text=f"{Secret(canary)}")
    log.info("stack", stack_info=True, local=canary)
    plain.info("split %s%s %r", canary[:9], canary[9:], {"x": [canary]})
    plain.info("named %(token)s", {"token": canary})
    plain.info("not formatted " + canary)
    plain.info("extra", extra={"token": canary})
    try:
        local = canary
        raise KeyError(local) from ValueError([local])  # noqa: TRY301
    except KeyError:
        log.exception("failed", reason=canary)
        plain.exception("failed")
    log.info("error as a value", error=ValueError(canary))

    assert canary not in out.getvalue()
    assert canary[:9] + canary[9:12] not in out.getvalue()
    assert out.getvalue().count("[secret]") >= 14
    assert "KeyError" in out.getvalue()
    assert DROPPED not in out.getvalue()


def test_local_variables_are_not_in_tracebacks(out: io.StringIO) -> None:
    configure(stream=out, json=False)

    def fails() -> None:
        not_registered_anywhere = "unheard-" + "of-value"  # put together here: tracebacks do show source lines
        raise ValueError(len(not_registered_anywhere))

    try:
        fails()
    except ValueError:
        get_logger("flow8").exception("failed")

    assert "ValueError: 16" in out.getvalue()
    assert "unheard-of-value" not in out.getvalue()


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError(CANARY)

    __repr__ = __str__


def loop() -> dict[str, object]:
    ring: dict[str, object] = {"token": CANARY}
    ring["self"] = ring
    return ring


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("message", "args"),
    [("%s " + CANARY, (Hostile(),)), ("%d " + CANARY, ("x",)), ("%s %s " + CANARY, (1,)), (Hostile(), ())],
    ids=["an argument that raises", "a wrong format", "too few arguments", "a message that raises"],
)
def test_a_record_that_cannot_be_formatted_is_replaced_by_the_fixed_line(
    out: io.StringIO, capsys: pytest.CaptureFixture[str], as_json: bool, message: object, args: tuple[object, ...]
) -> None:
    configure(stream=out, json=as_json)

    logging.getLogger("somebody").warning(message, *args)

    assert DROPPED in out.getvalue()
    assert CANARY not in out.getvalue() + "".join(capsys.readouterr())


@pytest.mark.parametrize("value", [Hostile(), loop(), {Hostile(): 1}, {ObjectId(): CANARY}])
def test_a_value_that_cannot_be_rendered_costs_the_record_not_the_secret(out: io.StringIO, value: object) -> None:
    configure(stream=out)

    get_logger("flow8").warning("odd", value=value)

    assert [line["message"] for line in lines(out)] == [DROPPED]
    assert CANARY not in out.getvalue()


def test_a_fault_in_the_redaction_itself_drops_the_record(
    out: io.StringIO, canary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(stream=out)
    monkeypatch.setattr(redaction, "scrub", lambda text: 1 / 0)

    get_logger("flow8").warning(canary)

    assert [line["message"] for line in lines(out)] == [DROPPED]


def test_a_stream_that_refuses_shows_nothing_elsewhere(canary: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    out = io.StringIO()
    configure(stream=out)
    handler = next(h for h in logging.getLogger().handlers if getattr(h, "stream", None) is out)
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(Full())

    logging.getLogger("somebody").warning("%s", canary)

    assert "".join(capsys.readouterr()) == ""


def test_a_lone_surrogate_does_not_lose_the_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as stream:
        configure(stream=stream)
        get_logger("flow8").warning("odd \ud800 text")

    assert "odd" in (tmp_path / "log").read_text()


def test_handlers_that_stand_already_are_made_to_redact_in_their_own_format(
    out: io.StringIO, canary: str, attach: Callable[[logging.Handler], logging.Logger]
) -> None:
    theirs = io.StringIO()
    handler = logging.StreamHandler(theirs)
    handler.setFormatter(logging.Formatter("theirs: %(message)s"))
    logger = attach(handler)
    configure(stream=out)

    logger.warning("value %s", canary)

    assert theirs.getvalue() == "theirs: value [secret]\n"


def test_the_handler_of_last_resort_redacts_too(out: io.StringIO, canary: str) -> None:
    configure(stream=out)
    assert logging.lastResort is not None

    assert canary not in logging.lastResort.format(log_canaries._record("value %s", (canary,)))


def test_warnings_go_through_the_log(out: io.StringIO, canary: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure(stream=out)
        warnings.warn(f"old {canary}", stacklevel=1)

    assert lines(out)[0]["component"] == "py.warnings"
    assert canary not in out.getvalue()


def test_an_uncaught_error_is_logged_without_its_secret() -> None:
    program = f"""
import threading
from flow8_core import logging, redaction
redaction.register({CANARY!r})
logging.configure(json=True)
thread = threading.Thread(target=lambda: [][int("{CANARY}"[-0:0] or 7)])
thread.start(); thread.join()
raise ValueError("canary-" + "hunter2-and-more")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment.clean(), check=False
    )

    records = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [record["message"] for record in records] == ["uncaught error"] * 2
    assert "ValueError: [secret]" in records[1]["exception"]
    assert CANARY not in ended.stderr
    assert ended.returncode == 1


# ---- the self-test ---------------------------------------------------------------------------------------------------


def test_a_handler_that_lets_secrets_through_refuses_the_start(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Redacting, "format", lambda self, record: self._inner.format(record))

    with pytest.raises(RedactionBroken) as raised:
        configure(stream=out)

    assert raised.value.code == "internal_error"
    assert "canary:" not in raised.value.message


@pytest.mark.parametrize("broken", ["values", "rules"])
def test_each_layer_is_tried_by_itself(out: io.StringIO, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    if broken == "values":
        monkeypatch.setattr(redaction._registry, "scrub", lambda text: text)
    else:
        monkeypatch.setattr(redaction, "RULES", ())

    with pytest.raises(RedactionBroken):
        configure(stream=out)


def test_a_handler_added_later_without_redaction_is_found_by_a_second_self_test(
    out: io.StringIO, attach: Callable[[logging.Handler], logging.Logger]
) -> None:
    configure(stream=out)
    careless = logging.StreamHandler(io.StringIO())
    attach(careless)

    with pytest.raises(RedactionBroken):
        flow8_logging.self_test()
    flow8_logging.protect(careless)
    flow8_logging.self_test()


def test_a_handler_whose_own_emit_raises_refuses_the_start(
    out: io.StringIO, attach: Callable[[logging.Handler], logging.Logger]
) -> None:
    class Broken(logging.StreamHandler[io.StringIO]):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(record.getMessage())

    attach(Broken(io.StringIO()))

    with pytest.raises(RedactionBroken):
        configure(stream=out)


def test_the_self_test_writes_nothing(
    out: io.StringIO,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    attach: Callable[[logging.Handler], logging.Logger],
) -> None:
    attach(logging.handlers.RotatingFileHandler(tmp_path / "log", maxBytes=10, backupCount=1))

    configure(stream=out)

    assert out.getvalue() == "".join(capsys.readouterr()) == (tmp_path / "log").read_text() == ""


# ---- libraries -------------------------------------------------------------------------------------------------------


def test_talkative_libraries_are_pinned_whatever_the_level(out: io.StringIO) -> None:
    configure(stream=out, level="DEBUG", unsafe_debug=False)

    for name in ("requests_oauthlib", "urllib3", "slack_sdk", "botocore", "msal", "pymongo", "celery.app.trace"):
        logging.getLogger(f"{name}.child").info("chatter")
        logging.getLogger(f"{name}.child").warning("concern from %s", name)
    logging.getLogger("celery.worker").debug("chatter")

    assert [str(line["message"]).split()[0] for line in lines(out)] == ["concern"] * 7


def test_pins_can_be_lifted_and_come_back(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(flow8_logging.UNSAFE_DEBUG, "1")
    configure(stream=out, level="DEBUG")
    logging.getLogger("urllib3").debug("heard")
    monkeypatch.delenv(flow8_logging.UNSAFE_DEBUG)
    configure(stream=out, level="DEBUG")
    logging.getLogger("urllib3").debug("not heard")

    assert [line["message"] for line in lines(out)] == ["heard"]
