"""The store of a deployment: MongoDB. The only place that imports pymongo, which takes a third of a second."""

from __future__ import annotations

from flow8_core.store.mongo.store import MongoStore

__all__ = ["MongoStore"]
