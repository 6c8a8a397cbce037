"""What a command needs of its surroundings: places that it can write to, and a Prefect server that answers."""

import os
import tempfile
from pathlib import Path

import stages
from fetalflow.errors import InputError

ANSWER_S = 3  # time limit for a Prefect server


def use_writable_places() -> None:
    """Let Prefect keep its files in `workspaces/.home`, unless the person has a `~/.prefect`. If the home folder cannot
    be written, let all libraries do so, or if that cannot be written either, in a new temporary folder. A variable that
    somebody set stays as it is."""
    home = Path(os.path.expanduser("~"))
    place = stages.OF_LIBRARIES
    has_place = _writable(place, make=True)
    if _writable(home):
        if has_place and not (home / ".prefect").exists():
            os.environ.setdefault("PREFECT_HOME", str(place / "prefect"))
        return
    if not has_place:
        place = Path(tempfile.mkdtemp(prefix="fetalflow-"))
    profiles = home / ".prefect" / "profiles.toml"
    if os.access(profiles, os.R_OK):
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles))
    for variable, folder in {
        "PREFECT_HOME": "prefect",
        "MPLCONFIGDIR": "matplotlib",
        "XDG_CACHE_HOME": "cache",
        "XDG_CONFIG_HOME": "config",
        "TORCH_HOME": "torch",
    }.items():
        (place / folder).mkdir(exist_ok=True)
        os.environ.setdefault(variable, str(place / folder))


def _writable(folder: Path, make: bool = False) -> bool:
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # os.access says yes to root, for whom some folders are read-only too
            return True
    except OSError:
        return False


def require_prefect_server() -> None:
    """Raises InputError if PREFECT_API_URL names a server that does not answer. Prefect itself waits for minutes."""
    import httpx

    from fetalflow.registry.address import public_uri

    if not (url := os.environ.get("PREFECT_API_URL")):
        from prefect.settings import PREFECT_API_URL  # a profile may set it as well

        url = PREFECT_API_URL.value()
    if not url:
        return
    try:
        httpx.get(f"{url.rstrip('/')}/health", timeout=ANSWER_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(
            f"the Prefect server at {public_uri(url)} does not answer ({str(error) or type(error).__name__}). Start it "
            "(`prefect server start`), correct PREFECT_API_URL, or unset it: then each run starts a temporary server."
        ) from None


def set_prefect_defaults() -> None:
    """Set what is too short or too rare by Prefect's defaults. Values that a person has set stay."""
    for name, value in {
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # default 20; 18 were measured when idle
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # as in heartbeats.py: a run without heartbeats is set to CRASHED
    }.items():
        os.environ.setdefault(name, value)
