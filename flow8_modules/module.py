"""`@module`: one decorated function with two models is a module, and everything else is worked out from them."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from flow8_core.errors import InternalError
from flow8_modules import parsing
from flow8_modules.context import Context
from flow8_modules.effect import Effect
from flow8_modules.model import Input, Output
from flow8_modules.needs import Need, as_needs

I = TypeVar("I", bound=Input)  # noqa: E741 - input and output, as in the signatures below
O = TypeVar("O", bound=Output)  # noqa: E741

Config = Mapping[str, Any]
DeclaredNeeds = Need | tuple[Need, ...] | None
DeclaredEffect = Effect | Callable[[I, Config | None], Effect]

_REF = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, eq=False)
class Module(Generic[I, O]):
    """One verb of one service. Callable as the function that it was made from."""

    ref: str
    version: int
    title: str
    description: str
    input_model: type[I]
    output_model: type[O]
    needs: DeclaredNeeds | Callable[[I], DeclaredNeeds]
    effect: DeclaredEffect[I]
    function: Callable[[I, Context], O]

    def __call__(self, inputs: I, ctx: Context) -> O:
        return self.function(inputs, ctx)

    @property
    def key(self) -> str:
        """Ref and version, as a step pins them: `slack-message@1`."""
        return f"{self.ref}@{self.version}"

    def parse(self, mapping: Mapping[str, Any]) -> I:
        """A step's resolved `input_mapping` as this module's input. Raises `ValidationFailed`, all faults at once."""
        return parsing.parse(self.input_model, mapping)

    def needs_of(self, inputs: I) -> tuple[Need, ...]:
        """Everything that this call needs."""
        return as_needs(self.needs(inputs) if callable(self.needs) else self.needs)

    def effect_of(self, inputs: I, component: Config | None = None) -> Effect:
        """What repeating this call does. `component` is the configuration of the component that it runs with."""
        return self.effect(inputs, component) if callable(self.effect) else self.effect

    def dump(self, output: O) -> dict[str, Any]:
        """The output as plain JSON, as the ledger keeps it."""
        if not isinstance(output, self.output_model):
            raise InternalError(f"{self.key} returned something else than its {self.output_model.__name__}.")
        return output.model_dump(mode="json")

    def schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of `input` and `output`."""
        return {
            "input": self.input_model.model_json_schema(mode="validation"),
            "output": self.output_model.model_json_schema(mode="serialization"),
        }

    def example(self) -> dict[str, Any]:
        """flow8's ArgsExample and OutExample, as `args` and `out`: what a form shows, what expressions can reach."""
        return {"args": _example(self.input_model), "out": _example(self.output_model)}

    def describe(self) -> dict[str, Any]:
        """What the catalogue, the docs page and the API say of this module. Needs that depend on the call are those of
        the example."""
        schema, example = self.schema(), self.example()
        needs = self.needs_of(self.parse(example["args"]))
        return {
            "ref": self.ref,
            "version": self.version,
            "title": self.title,
            "description": self.description,
            "needs": [need.describe() for need in needs],
            "effect": "depends on the call" if callable(self.effect) else str(self.effect),
            "input": schema["input"],
            "output": schema["output"],
            "args_example": example["args"],
            "out_example": example["out"],
        }


def module(
    ref: str,
    *,
    version: int = 1,
    needs: DeclaredNeeds | Callable[[I], DeclaredNeeds] = None,
    effect: DeclaredEffect[I],
) -> Callable[[Callable[[I, Context], O]], Module[I, O]]:
    """Make a module of `def verb(inputs: SomeInput, ctx: Context) -> SomeOutput`.

    The docstring is the description and its first line the title. `needs` and `effect` may be functions: of the inputs,
    and of the inputs and the component's configuration. Raises TypeError where the function has another shape.
    """
    if not _REF.fullmatch(ref):
        raise TypeError(f"{ref!r} is no module ref: write kebab-case")
    if version < 1:
        raise TypeError("versions count from 1")

    def make(function: Callable[[I, Context], O]) -> Module[I, O]:
        input_model, output_model = _models(function)
        description = inspect.getdoc(function) or ""
        return Module(
            ref=ref,
            version=version,
            title=description.partition("\n")[0].rstrip("."),
            description=description,
            input_model=input_model,
            output_model=output_model,
            needs=needs,
            effect=effect,
            function=function,
        )

    return make


def _models(function: Callable[..., Any]) -> tuple[Any, Any]:
    hints = typing.get_type_hints(function)
    parameters = list(inspect.signature(function).parameters)
    found = [hints.get(name) for name in parameters], hints.get("return")
    match found:
        case [[type() as input_model, given], type() as output_model] if given is Context:
            if issubclass(input_model, Input) and issubclass(output_model, Output):
                return input_model, output_model
    raise TypeError(f"{function.__name__} must be (inputs: <an Input>, ctx: Context) -> <an Output>")


def _example(model: type[Input] | type[Output]) -> dict[str, Any]:
    """The model's own whole example; else the first one of each field that must be given (of all, for an output)."""
    extra = model.model_config.get("json_schema_extra")
    if isinstance(extra, dict) and isinstance(extra.get("examples"), list):
        return dict(extra["examples"][0])  # type: ignore[index, arg-type]
    return {
        name: field.examples[0]
        for name, field in model.model_fields.items()
        if field.examples and (field.is_required() or issubclass(model, Output))
    }
