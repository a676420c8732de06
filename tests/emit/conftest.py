from __future__ import annotations

from collections.abc import Iterator

import pytest
from captured import Captured, capturing


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capturing() as made:
        yield made
