"""What a worker does with a step; and the Python door: `submit`, `submit_many`, `wait`, `Door`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flow8_runtime.door import Door, submit, submit_many, wait

__all__ = ["Door", "submit", "submit_many", "wait"]


def __getattr__(name: str) -> Any:
    """The door is opened by whoever asks for it, not by whoever imports another file of this room."""
    if name in __all__:
        from flow8_runtime import door

        return getattr(door, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
