"""Programs that must keep to this machine and leave the home folder as it is."""

from pathlib import Path

from processes import QUICK_START, ROOT


def alone(folder: Path) -> dict[str, str]:
    """Variables for such a program: an empty home folder in `folder`, and sockets that are watched."""
    home = folder / "home"
    home.mkdir()
    return {"HOME": str(home), "PYTHONPATH": f"{QUICK_START}:{ROOT}", "WATCHED_HOSTS": str(folder / "hosts.txt")}


def assert_alone(folder: Path) -> None:
    """No host beside this machine was asked for, and nothing lies in the home folder."""
    hosts = folder / "hosts.txt"
    assert not hosts.exists(), hosts.read_text()
    assert not (found := sorted(map(str, (folder / "home").rglob("*")))), found
