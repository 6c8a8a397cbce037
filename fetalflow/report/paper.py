"""Prints a page as PDF through a Chromium that is installed."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from fetalflow.artefacts import atomic_file

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 120


def print_page(page: Path, target: Path) -> str:
    """Write the HTML file `page` as the PDF `target`. Returns an empty text, or the reason why there is no PDF; an
    earlier `target` is then removed, because it would show an earlier examination."""
    target.unlink(missing_ok=True)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"no Chromium was found. Install chromium, or print {page} in a browser."
    with TemporaryDirectory(prefix="fetalflow-") as folder:
        printed = Path(folder, "page.pdf")
        command = [
            *(browser, "--headless=new", "--disable-gpu", "--no-pdf-header-footer"),
            f"--user-data-dir={folder}/profile",
            "--host-resolver-rules=MAP * ~NOTFOUND",  # the page needs no network
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # root cannot have the sandbox
            *(f"--print-to-pdf={printed}", page.absolute().as_uri()),
        ]
        try:
            there = environment(Path(folder))
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, env=there)
            reason = f"exit status {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = type(error).__name__
        if printed.is_file() and (content := printed.read_bytes())[:5] == b"%PDF-":
            with atomic_file(target) as temporary:
                temporary.write_bytes(content)
            return ""
    return f"{browser} did not print it ({reason}). Print {page} in a browser."


def environment(folder: Path) -> dict[str, str]:
    """The variables for a Chromium that writes into `folder` alone. It puts crash reports and settings of the desktop
    into the home folder, whatever its profile is."""
    return os.environ | dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(folder))
