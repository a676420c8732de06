"""The reading side of the log: files, lines and typed records. What they mean is for the views.

`views.store` opens a store with every view as a method; here is what it reads with.
"""

from __future__ import annotations
