"""The two models of a module: what goes in, and what comes out."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Fault", "Field", "Input", "Output"]


class Fault(ValueError):
    """Raised in a validator of an `Input` to say what is wrong, without repeating the value.

    Only a Fault's text reaches the flow's author: other ValueErrors tend to quote what they were given. `field` names
    the place where a validator looks at several fields.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class Input(BaseModel):
    """Base of all inputs: unknown names are faults, text is read as numbers and booleans where those are meant (flow8
    renders expressions to text), and no error ever repeats a value."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
    )


class Output(BaseModel):
    """Base of all outputs: what later steps reach by `{{ $prev.<step>.<field> }}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
