"""A browser without a window."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fetalflow.report.paper import environment

CHROMIUM = os.environ.get("FETALFLOW_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def opened_chromium() -> Iterator[object]:
    """Chromium. Where it is missing, the test is skipped and says so."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: `apt-get install chromium`, or set FETALFLOW_CHROMIUM to its path.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        there = environment(Path(os.environ["TESTS_FOLDER"], "chromium"))
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], env=there)
        yield browser
        browser.close()
