"""`Scope`: what a step may see of its play."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Scope:
    """What expressions may see: the play's arguments, the outputs of earlier steps by name, and how those ended
    (`states`, flow8's words). Most steps see none of it, so two of them may be given as what makes them when they are
    first asked for."""

    __slots__ = ("_args", "_states", "outputs")

    def __init__(
        self,
        *,
        args: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        outputs: Mapping[str, Any],
        states: Mapping[str, str] | Callable[[], Mapping[str, str]] = _NOTHING,
    ) -> None:
        self._args = args
        self.outputs = outputs
        self._states = states

    @property
    def args(self) -> Mapping[str, Any]:
        if callable(self._args):
            self._args = self._args()
        return self._args

    @property
    def states(self) -> Mapping[str, str]:
        if callable(self._states):
            self._states = self._states()
        return self._states
