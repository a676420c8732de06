"""The faulty backend as fixtures."""

from __future__ import annotations

from faulty import backend, certificates, grpc_backend, spawned

__all__ = ["backend", "certificates", "grpc_backend", "spawned"]
