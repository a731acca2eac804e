"""All settings in one model: every floor declares its own section, this file puts them together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from bson import ObjectId
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from credentials.keyring import KeySettings
from credentials.providers.settings import OAuthApp, ServiceSettings
from credentials.refresh_settings import RefreshSettings
from credentials.webhooks import EventSettings
from flow8_core.egress import EgressSettings
from flow8_modules.catalogue import ModuleSettings


def _is_object_id(text: str) -> str:
    if not ObjectId.is_valid(text):
        raise ValueError("an id has 24 hexadecimal digits")
    return text


Id = Annotated[str, AfterValidator(_is_object_id)]


class WorkerSettings(BaseModel):
    """How a worker drains the ledger. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processes: int | None = Field(None, ge=1, le=256, description="Pool processes; one a core by default.")
    threads: int = Field(64, ge=1, le=512, description="Steps that one process has in flight at most.")
    budget_s: float = Field(0.3, gt=0, le=10, description="How long one wake-up drains before others get a turn.")
    linger_s: float = Field(0.2, ge=0, le=5, description="How long a drainer that is done listens for fresh steps.")
    memory_mb: int = Field(1024, ge=64, description="Resident megabytes after which a process is replaced.")
    hangs_after_s: float = Field(60.0, ge=2, le=3600, description="Without a sign of life, a process is killed.")
    lease_s: float = Field(30.0, ge=1, le=600, description="How long a claim holds without being renewed.")
    sweep_s: float = Field(1.5, gt=0, le=60, description="Pause between two sweeps of a deployment.")
    beat_s: float = Field(2.0, gt=0, le=60, description="Pause between two heartbeats; three missed ones are a death.")


class Settings(BaseModel):
    """flow8.yaml, .env and the environment, checked as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    public_url: str = "http://127.0.0.1:4454"
    home: Path = Path(".flow8")
    store: str = ""
    broker: str | None = None
    workspace: Path | None = None
    company: Id | None = None
    user: Id | None = None
    keys: KeySettings = KeySettings()
    oauth2: dict[str, OAuthApp] = {}
    services: dict[str, ServiceSettings] = {}
    events: EventSettings = EventSettings()
    refresh: RefreshSettings = RefreshSettings()
    egress: EgressSettings = EgressSettings()
    worker: WorkerSettings = WorkerSettings()
    modules: ModuleSettings = ModuleSettings()

    @model_validator(mode="before")
    @classmethod
    def _store_in_home(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("store"):
            home = Path(str(values.get("home", ".flow8")))
            return {**values, "store": f"sqlite:///{home / 'flow8.db'}"}
        return values

    @property
    def embedded(self) -> bool:
        """Whether this is embedded mode: the store is SQLite."""
        return self.store.startswith("sqlite:")

    @property
    def workspace_root(self) -> Path:
        """The folder that holds every play's own workspace; shared by the hosts of a deployment."""
        return self.workspace or self.home / "workspace"

    @property
    def callback_port(self) -> int:
        """The port that `public_url` names, where the OAuth2 callback is served."""
        parts = urlsplit(self.public_url)
        return parts.port or (443 if parts.scheme == "https" else 80)
