"""Results that are still to come: a task or a future that a function hands out.

The operation ends when the future does, so what runs in it is part of the operation. The future
itself is handed on as it is: nothing stands in for it, and asking it how it went must not make it
forget that nobody else asked. Neither asyncio nor concurrent.futures is imported for that.
"""

from __future__ import annotations

import sys
from typing import Any

from otel_empathy.core.outcomes import Outcome
from otel_empathy.emit.spans import Held, Operation

__all__ = ["followed"]


def followed(result: Any, operation: Operation) -> bool:
    """Let an operation end with a future of the standard library; False if the result is none."""
    if not hasattr(type(result), "add_done_callback") or not _is_future(result):
        return False
    if result.done():  # the loop that would call back may be closed
        _settle(result, operation)
        return True
    held = Held(operation)  # of a future that is dropped undone
    result.add_done_callback(lambda future: _settle(future, held.operation))
    return True


def _is_future(result: Any) -> bool:
    asyncio, threads = sys.modules.get("asyncio"), sys.modules.get("concurrent.futures")
    return (asyncio is not None and asyncio.isfuture(result)) or (
        threads is not None and isinstance(result, threads.Future)
    )


def _settle(future: Any, operation: Operation) -> None:
    if future.cancelled():
        operation.end(Outcome.CANCELLED)
        return
    # Not by `exception()`: a task that was asked for its error once does not complain any more
    # that nobody looked at it.
    error = getattr(future, "_exception", None)
    if error is not None:
        operation.fail(error)
    else:
        operation.finish(future.result())
