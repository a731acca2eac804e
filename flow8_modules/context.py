"""`Context`: all that a module may touch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from flow8_core.clock import Deadline
from flow8_core.errors import AccessDenied
from flow8_core.secret import Secret
from flow8_modules.clients import Clients
from flow8_modules.http import Http

if TYPE_CHECKING:
    from flow8_core.egress import Egress, Hosts
    from flow8_modules.workspace import WorkFile, Workspace


class ConnectedLink(Protocol):
    """A user's grant, decrypted and fresh. What the resolver hands over; `credentials` is not imported for it."""

    @property
    def link_id(self) -> str: ...
    @property
    def service(self) -> str: ...
    @property
    def access_token(self) -> Secret: ...
    @property
    def user_token(self) -> Secret | None: ...
    @property
    def scopes(self) -> frozenset[str]: ...
    @property
    def account(self) -> str: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    @property
    def base_url(self) -> str: ...
    @property
    def hosts(self) -> Hosts: ...


class ResolvedComponent(Protocol):
    """A company's component with its secrets decrypted, as `Secret`s inside `config`."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...


class Log(Protocol):
    """A structured logger; its lines say which step of which play they are of."""

    def info(self, event: str, /, **fields: Any) -> Any: ...
    def warning(self, event: str, /, **fields: Any) -> Any: ...


Progress = Callable[[int, int | None, str], None]
_NONE: Mapping[str, ResolvedComponent] = MappingProxyType({})


class Context:
    """What one call runs with. Made by the runtime from ready parts; a module only reads it.

    `defaults` are the kinds of component that are there because the company made them its default, and not because the
    step names them. `deadline` covers the whole call. `workspace` is asked for when the module wants a file.
    """

    __slots__ = (
        "_components",
        "_link",
        "_workspace",
        "clients",
        "deadline",
        "defaults",
        "egress",
        "idempotency_key",
        "log",
        "progress",
    )

    def __init__(
        self,
        *,
        egress: Egress,
        workspace: Callable[[], Workspace],
        idempotency_key: str,
        deadline: Deadline,
        log: Log,
        progress: Progress,
        clients: Clients,
        link: ConnectedLink | None = None,
        components: Mapping[str, ResolvedComponent] = _NONE,
        defaults: frozenset[str] = frozenset(),
    ) -> None:
        self._link = link
        self._components = components
        self.defaults = defaults
        self.egress = egress
        self._workspace = workspace
        self.idempotency_key = idempotency_key
        self.deadline = deadline
        self.log = log
        self.progress = progress
        self.clients = clients

    @property
    def link(self) -> ConnectedLink:
        """The link that the step runs with. Raises `AccessDenied` where there is none."""
        if self._link is None:
            raise AccessDenied(
                "This step needs a connected account: connect the service, or name a link_id in the step."
            )
        return self._link

    @property
    def has_link(self) -> bool:
        return self._link is not None

    def component(self, kind: str) -> Mapping[str, Any]:
        """The configuration of the component of `kind`. Raises `AccessDenied` where there is none."""
        found = self._components.get(kind)
        if found is None:
            raise AccessDenied(
                f"This step needs a component of kind {kind}: add one, or name it in component_config_ids."
            )
        return found.config

    def has_component(self, kind: str) -> bool:
        return kind in self._components

    @property
    def http(self) -> Http:
        """Guarded HTTP that ends with this call's deadline."""
        return Http(self.egress, self.deadline)

    @property
    def workspace(self) -> Workspace:
        """The files of the play."""
        return self._workspace()

    def open_file(self, path: str, *, field: str = "file_path") -> BinaryIO:
        """A file of the play's workspace, to read. `field` is the input that a fault is laid at.

        Raises `ValidationFailed` (not a plain path inside the workspace, not a regular file, too large) or `NotFound`.
        """
        return self.workspace.open_file(path, field=field)

    def create_file(self, name: str, *, field: str = "file_path") -> AbstractContextManager[WorkFile]:
        """A new file of the play's workspace; it appears whole when the block ends well, and not at all otherwise."""
        return self.workspace.create_file(name, field=field)

    def remaining(self) -> float:
        """Seconds until the call must be over."""
        return self.deadline.remaining()
