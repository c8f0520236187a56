"""What the documents say is what the code does."""

from __future__ import annotations

from docs.generate import PAGE, page
from worker.settings import PREFIX, Settings


def test_the_configuration_reference_is_as_the_code_is() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/configuration.md is stale: run `make docs`"


def test_it_names_and_describes_every_setting_of_a_worker() -> None:
    for name, field in Settings.model_fields.items():
        assert f"| `{PREFIX}{name.upper()}` |" in page()
        assert len(field.description or "") > 20
