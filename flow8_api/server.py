"""Serves the application: a socket of our own, and a server that writes no access log."""

from __future__ import annotations

import logging
import socket

import uvicorn
from fastapi import FastAPI

from flow8_core.errors import ValidationFailed

BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ValidationFailed` with what to do about it where there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ValidationFailed(
            f"Port {port} of {host} cannot be served: {error.strerror}. Free it, or choose another (public_url).",
            path="port",
        ) from None
    return listener


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server to be run on a socket of `listen`."""
    config = uvicorn.Config(
        app,
        log_config=None,  # ours redacts
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=5,
    )
    # The callback's address holds codes and states: no line of it, whatever handlers others hang on this logger.
    logging.getLogger("uvicorn.access").disabled = True
    return uvicorn.Server(config)
