"""What a module's author works with: everything that a module may import from us, beside `flow8_core.egress`.

The catalogue (`flow8_modules.catalogue`) and the tools for tests (`flow8_modules.testing`) are imported by name.
"""

from flow8_core import errors
from flow8_core.clock import Deadline
from flow8_core.secret import Secret
from flow8_modules.clients import Clients
from flow8_modules.context import ConnectedLink, Context
from flow8_modules.effect import Effect
from flow8_modules.http import Http, bearer
from flow8_modules.model import Fault, Field, Input, Output
from flow8_modules.module import Module, module
from flow8_modules.needs import Component, Link, OneOf
from flow8_modules.parsing import read_json
from flow8_modules.retry_after import retry_after
from flow8_modules.rules import Rule
from flow8_modules.workspace import Workspace

__all__ = [
    "Clients",
    "Component",
    "ConnectedLink",
    "Context",
    "Deadline",
    "Effect",
    "Fault",
    "Field",
    "Http",
    "Input",
    "Link",
    "Module",
    "OneOf",
    "Output",
    "Rule",
    "Secret",
    "Workspace",
    "bearer",
    "errors",
    "module",
    "read_json",
    "retry_after",
]
