"""Modules that do what none should: they do not end, grow without measure, or hold the interpreter."""

from __future__ import annotations

import ctypes
import threading
import time

from flow8_modules import Context, Effect, Field, Input, Output, module

_kept: list[bytearray] = []


class Nothing(Input):
    """Nothing to say."""


class Much(Input):
    """How much."""

    megabytes: int = Field(description="Megabytes to keep.", examples=[1])


class Over(Output):
    """It ended."""

    ended: bool = Field(description="Whether it ended.", examples=[True])


@module("stuck-spin", effect=Effect.READ)
def spin(inputs: Nothing, ctx: Context) -> Over:
    """Loop in Python, far beyond any deadline."""
    ends = time.monotonic() + 3600
    while time.monotonic() < ends:
        pass
    return Over(ended=True)


@module("stuck-block", effect=Effect.READ)
def block(inputs: Nothing, ctx: Context) -> Over:
    """Wait for what never comes."""
    threading.Event().wait(3600)
    return Over(ended=True)


@module("stuck-seize", effect=Effect.READ)
def seize(inputs: Nothing, ctx: Context) -> Over:
    """Sleep in C with the interpreter's lock in hand: nothing else in the process moves."""
    ctypes.PyDLL(None).sleep(3600)
    return Over(ended=True)


@module("stuck-grow", effect=Effect.READ)
def grow(inputs: Much, ctx: Context) -> Over:
    """Keep memory."""
    _kept.append(bytearray(b"x") * (inputs.megabytes * 2**20))
    return Over(ended=True)
