"""From core objects to calls of the OpenTelemetry API: spans, measurements, events, context."""

from __future__ import annotations
