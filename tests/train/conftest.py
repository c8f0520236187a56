"""Fixtures for the tests of train."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _log_of_train(caplog: pytest.LogCaptureFixture) -> None:
    """`caplog` contains the messages that the command line prints without -v and -q."""
    caplog.set_level(logging.INFO, "train")
