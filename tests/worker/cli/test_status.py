"""What `dicom-router status` and `doctor` say of the plugin."""

from __future__ import annotations

from typing import Any

import pytest

from worker.cli.status import following

# The answer of /body-part-router/status, as far as it is read: 33 entries of the change log follow the cursor.
PLUGIN = {"following": True, "redis": "ok", "cursor": 100, "last_change": 133, "lag": 33}


@pytest.mark.parametrize(
    ("plugin", "text"),
    [
        (None, "not installed there"),
        ({**PLUGIN, "waiting": 0}, "follows the change log, 0 X-rays wait"),
        ({**PLUGIN, "waiting": 1}, "follows the change log, 1 X-ray waits"),
        ({**PLUGIN, "waiting": 33}, "follows the change log, 33 X-rays wait"),
        ({**PLUGIN, "waiting": None}, "follows the change log"),
        (PLUGIN, "follows the change log"),
        ({**PLUGIN, "following": False, "waiting": 0}, "does not follow the change log"),
        ({**PLUGIN, "redis": "down (TimeoutError)"}, "cannot publish: its Redis is down (TimeoutError)"),
    ],
)
def test_it_says_how_many_xrays_wait_and_no_number_that_counts_anything_else(
    plugin: dict[str, Any] | None, text: str
) -> None:
    assert following(plugin) == text
