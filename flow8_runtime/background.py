"""Work that goes on in a thread while its caller does something else, and is waited for where its result is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def begun(work: Callable[[], T]) -> Callable[[], T]:
    """Begin the work now. Calling what this gives waits for its end, and returns or raises what it came to.

    Once waited for, the thread is gone: a process may fork then.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  # raised again where the result is asked for
            errors.append(error)

    thread = threading.Thread(target=run, name="flow8-background", daemon=True)
    thread.start()

    def result() -> T:
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    return result
