"""For authors: a check of everything that a module promises, and a `Context` to call it with in tests.

def test_my_module_keeps_the_conventions():
    assert [] == conformance(my_module)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow8_core.clock import Clock, Deadline, SystemClock
from flow8_core.egress import Egress, EgressSettings, Hosts
from flow8_core.errors import ValidationFailed
from flow8_core.secret import Secret
from flow8_modules.clients import Clients
from flow8_modules.context import ConnectedLink, Context, ResolvedComponent
from flow8_modules.effect import Effect
from flow8_modules.model import Input, Output
from flow8_modules.module import Module
from flow8_modules.needs import Need
from flow8_modules.workspace import Workspace


def conformance(module: Module[Any, Any]) -> list[str]:
    """What `module` lacks, in sentences; [] where it keeps all conventions.

    Texts end with a period; each field has a description and an example; the examples validate; the schemas are JSON;
    unknown inputs are refused with their path; the effect and the needs of the example can be told.
    """
    problems = [*_texts(module), *_fields(module.input_model), *_fields(module.output_model)]
    return problems or list(_examples(module)) or list(_behaviour(module))


def _texts(module: Module[Any, Any]) -> Iterator[str]:
    if not module.description:
        yield f"{module.ref} has no docstring"
    elif not module.description.partition("\n")[0].endswith("."):
        yield f"the first line of {module.ref}'s docstring does not end with a period"
    for model in (module.input_model, module.output_model):
        if not (model.__doc__ or "").strip().endswith("."):
            yield f"{model.__name__}'s docstring is missing, or does not end with a period"


def _fields(model: type[Input] | type[Output]) -> Iterator[str]:
    if not model.model_fields:
        yield f"{model.__name__} has no fields"
    for name, each in model.model_fields.items():
        if not (each.description or "").endswith("."):
            yield f"{model.__name__}.{name} has no description that ends with a period"
        if not each.examples:
            yield f"{model.__name__}.{name} has no example"
        else:
            try:
                json.dumps(each.examples, allow_nan=False)
            except (TypeError, ValueError):
                yield f"the example of {model.__name__}.{name} is not JSON"


def _examples(module: Module[Any, Any]) -> Iterator[str]:
    example = module.example()
    try:
        module.parse(example["args"])
    except ValidationFailed as error:
        yield f"the example of {module.ref}'s inputs is refused: {error.message}"
        return
    try:
        module.output_model.model_validate(example["out"])
    except ValueError:
        yield f"the example of {module.ref}'s outputs is refused"
    for name, each in module.input_model.model_fields.items():
        combined = {**example["args"], name: (each.examples or [None])[0]}
        try:
            module.parse(combined)
        except ValidationFailed as error:
            if any(path == f"input_mapping.{name}" for path, _ in error.problems) and name not in example["args"]:
                continue  # the example of one alternative beside another: the model's own rule speaks
            if any(path.startswith(f"input_mapping.{name}") for path, _ in error.problems):
                yield f"the example of {module.ref}'s {name} is refused: {error.message}"


def _behaviour(module: Module[Any, Any]) -> Iterator[str]:
    inputs = module.parse(module.example()["args"])
    if not isinstance(module.effect_of(inputs), Effect):
        yield f"{module.ref} declares no effect"
    if not all(isinstance(need, Need) for need in module.needs_of(inputs)):
        yield f"{module.ref} declares needs that are none"
    try:
        json.dumps(module.describe(), allow_nan=False)
    except (TypeError, ValueError):
        yield f"{module.ref} cannot be described in JSON"
    try:
        module.parse({**module.example()["args"], "no_such_input": "canary"})
        yield f"{module.ref} takes inputs that it does not have"
    except ValidationFailed as error:
        if error.path != "input_mapping.no_such_input" or "canary" in error.message:
            yield f"{module.ref} does not say which input is unknown, or repeats its value"


@dataclass(frozen=True)
class GivenLink:
    """A link as the resolver hands it over, for tests."""

    service: str
    access_token: Secret
    base_url: str
    scopes: frozenset[str]
    hosts: Hosts
    link_id: str = "000000000000000000000001"
    user_token: Secret | None = None
    account: str = "U0TEST"
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GivenComponent:
    """A component as the resolver hands it over, for tests."""

    config: Mapping[str, Any]
    name: str = "test"


@dataclass
class Noted:
    """What a module logged and how far it got; stands for `ctx.log` and `ctx.progress`."""

    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    steps: list[tuple[int, int | None, str]] = field(default_factory=list)

    def info(self, event: str, /, **fields: Any) -> None:
        self.events.append(("info", event, fields))

    def warning(self, event: str, /, **fields: Any) -> None:
        self.events.append(("warning", event, fields))

    def progress(self, done: int, total: int | None, note: str) -> None:
        self.steps.append((done, total, note))


def link_for(service: str, *, token: str, base_url: str, scopes: frozenset[str] | set[str] = frozenset()) -> GivenLink:
    """A link whose token may go to the host of `base_url`."""
    return GivenLink(service, Secret(token), base_url, frozenset(scopes), Hosts.of_url(base_url))


def context(
    folder: Path,
    *,
    egress: Egress | None = None,
    link: ConnectedLink | None = None,
    components: Mapping[str, ResolvedComponent | Mapping[str, Any]] | None = None,
    defaults: frozenset[str] = frozenset(),
    key: str = "test-key",
    timeout_s: float = 30.0,
    clock: Clock | None = None,
    noted: Noted | None = None,
    clients: Clients | None = None,
    max_bytes: int = 1 << 30,
) -> Context:
    """A context for one call, with `folder` as the play's workspace. Without `egress`, nothing private can be reached.

    A component may be given as its plain configuration.
    """
    noted = Noted() if noted is None else noted
    given = {
        kind: GivenComponent(each) if isinstance(each, Mapping) else each for kind, each in (components or {}).items()
    }
    workspace = Workspace(folder, max_bytes=max_bytes)
    return Context(
        egress=Egress(EgressSettings()) if egress is None else egress,
        workspace=lambda: workspace,
        idempotency_key=key,
        deadline=Deadline.after(timeout_s, clock or SystemClock()),
        log=noted,
        progress=noted.progress,
        clients=Clients() if clients is None else clients,
        link=link,
        components=given,
        defaults=defaults,
    )
