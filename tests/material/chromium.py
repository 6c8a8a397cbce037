"""A browser without a window."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CHROMIUM = os.environ.get("FETALFLOW_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def opened_chromium() -> Iterator[object]:
    """Chromium. Where it is missing, the test is skipped and says so."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: `apt-get install chromium`, or set FETALFLOW_CHROMIUM to its path.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        settings = {"XDG_CONFIG_HOME": os.environ["TESTS_FOLDER"] + "/chromium"}  # it writes there whatever it does
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], env=os.environ | settings)
        yield browser
        browser.close()
