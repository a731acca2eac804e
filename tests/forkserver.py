"""The processes that tests start for a function of theirs: forked from one server that has imported all they need.

There is one server for a whole run, and what it is to import is said once, before it starts: a process that has to
import the house itself takes a second to begin.
"""

from __future__ import annotations

import multiprocessing

_COMMAND = (  # `flow8` and its worker, with what they import only when they need it
    "argon2.low_level",
    "celery.apps.worker",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "flow8_cli.main",
    "flow8_modules.integrations.http.call",
    "flow8_modules.integrations.http.request",
    "flow8_modules.integrations.microsoft.calendar",
    "flow8_modules.integrations.microsoft.client",
    "flow8_modules.integrations.s3.client",
    "flow8_modules.integrations.s3.put",
    "flow8_modules.integrations.s3.upload",
    "flow8_modules.integrations.slack.message",
    "flow8_modules.integrations.slack.web_client",
    "flow8_runtime.door",
    "flow8_runtime.pool",
    "flow8_runtime.tasks",
    "flow8_runtime.transport",
    "kombu.transport.redis",
)

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *_COMMAND,
        "flow8_core.store.mongo",
        "flow8_core.store.sqlite",
        "requests_oauthlib",
        "tests.credentials.crowds",
        "tests.credentials.derived",
        "tests.credentials.holders",
        "tests.credentials.post",
        "tests.credentials.test_connect_windows",
        "tests.flows.test_park_and_release",
        "tests.store.rivals",
    ]
)
