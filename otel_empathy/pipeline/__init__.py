"""The SDK side: records become bytes, bytes reach the log, and the log is shipped to backends.

Each noun has its file: `chunk` the encoded records, `encode_json` and `encode_proto` their two wire
forms, `delta` the change between two cumulative points, and behind them the log, its cursors, the
backends and the loss ledger. What is recorded is decided in `emit` and `sources`, what is read back
in `store`.
"""

from __future__ import annotations
