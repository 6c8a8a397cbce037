"""Start MLflow's server with log-in. Everything else it needs stands in its environment (compose.yaml)."""

import os
import sys
import tempfile
from pathlib import Path

NEEDED = (
    *("MLFLOW_BACKEND_STORE_URI", "MLFLOW_AUTH_DATABASE_URI", "MLFLOW_ARTIFACTS_DESTINATION"),
    *("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
)
# Whoever may log in may read; writing is granted model by model. The user of the workers is the administrator. A good
# password is remembered for a minute: to check one takes 0.09 s of a core, and a model is some 400 requests.
CONFIG = "[mlflow]\ndefault_permission = READ\ndatabase_uri = {uri}\nauth_cache_ttl_seconds = 60\n"


def command(host: str = "0.0.0.0", port: int = 5000) -> list[str]:
    """MLflow's own command; artefacts pass through the server, so that workers need no key of the store."""
    return ["mlflow", "server", "--host", host, "--port", str(port), "--app-name", "basic-auth", "--serve-artifacts"]


def write_config(folder: Path) -> Path:
    """The log-in's settings, which MLflow reads from a file only. Private, since they hold a password."""
    path = folder / "auth.ini"
    path.touch(mode=0o600)
    # A configuration file reads % as the start of a name.
    path.write_text(CONFIG.format(uri=os.environ["MLFLOW_AUTH_DATABASE_URI"].replace("%", "%%")))
    return path


def main() -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise SystemExit(f"these must be set: {', '.join(missing)}")
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(write_config(Path(tempfile.mkdtemp())))
    os.execvp("mlflow", [*command(), *sys.argv[1:]])


if __name__ == "__main__":
    main()
