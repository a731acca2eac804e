"""A third party's package, as a test names it in the settings."""

from __future__ import annotations

from flow8_modules import Context, Effect, Field, Input, Output, module


class Greeting(Input):
    """Whom to greet."""

    name: str = Field(description="Name.", examples=["Ada"])


class Greeted(Output):
    """The greeting."""

    text: str = Field(description="What was said.", examples=["Hello, Ada"])


@module("acme-greet", effect=Effect.READ)
def greet(inputs: Greeting, ctx: Context) -> Greeted:
    """Greet somebody."""
    return Greeted(text=f"Hello, {inputs.name}")
