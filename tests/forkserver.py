"""The processes that tests start for a function of theirs: forked from one server that has imported all they need.

There is one server for a whole run, and what it is to import is said once, before it starts: a process that has to
import the house itself takes a second to begin.
"""

from __future__ import annotations

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "flow8_core.store.mongo",
        "flow8_core.store.sqlite",
        "requests_oauthlib",
        "tests.credentials.crowds",
        "tests.credentials.holders",
        "tests.credentials.post",
        "tests.credentials.rotating",
        "tests.credentials.test_connect_windows",
        "tests.flows.test_park_and_release",
        "tests.store.rivals",
    ]
)
