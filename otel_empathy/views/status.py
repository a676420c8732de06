"""The state of a home: its log, its backends, its loss ledger, answered from the files alone.

The counts of processes that live are as of now; what waits in their memory is known from the small
file that each keeps. Nothing is repaired or removed here.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from otel_empathy._version import __version__
from otel_empathy.core.clock import SYSTEM, Clock
from otel_empathy.pipeline import ledger, segments
from otel_empathy.pipeline.chunk import SIGNALS
from otel_empathy.pipeline.cursor import all_cursors

__all__ = ["status"]


def status(home: Path, *, clock: Clock = SYSTEM) -> dict[str, Any]:
    """Everything that `otel-empathy status` shows.

    Raises:
        OSError: A folder of the log cannot be read, so that nobody knows what is in it.
    """
    for signal in SIGNALS if home.is_dir() else ():
        with suppress(FileNotFoundError):
            os.scandir(segments.folder(home, signal)).close()
    moment = datetime.fromtimestamp(clock.time_ns() / 1e9, tz=timezone.utc)
    balance = ledger.recompute(home, all_cursors(home))
    return {
        "timestamp": moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "version": __version__,
        "log": _log(home, clock),
        "processes": _processes(home, clock),
        "ledger": balance.as_dict(),
    }


def _log(home: Path, clock: Clock) -> dict[str, Any]:
    signals = {}
    total = size = living = 0
    for signal in SIGNALS:
        found = segments.listed(home, signal)
        live = sum(segments.is_locked(segment.path, clock=clock) for segment in found)
        held = sum(segment.size for segment in found)
        signals[signal] = {"segments": len(found), "live": live, "bytes": held}
        total, size, living = total + len(found), size + held, living + live
    return {
        "home": str(home),
        "segments": total,
        "live": living,
        "bytes": size,
        "signals": signals,
    }


def _processes(home: Path, clock: Clock) -> list[dict[str, Any]]:
    """The processes that are writing now."""
    found = []
    for path in sorted(ledger.ledger_folder(home).glob("????????.json")):
        if not segments.is_locked(path, clock=clock):
            continue
        record = ledger.read_record(path)
        if record is not None:
            found.append(
                {
                    "pid": record.pid,
                    "service": record.service,
                    "instance": record.instance,
                    "durability": record.durability,
                    "leased": record.leased,
                    "waiting": record.waiting,
                    "backends": list(record.backends),
                }
            )
    return found
