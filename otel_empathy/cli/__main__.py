"""`python -m otel_empathy.cli` does what `otel-empathy` does."""

from __future__ import annotations

import sys

from otel_empathy.cli import main

sys.exit(main())
