"""Start the MLflow server with login. All settings come from environment variables (compose.yaml)."""

import os
import sys
import tempfile
from pathlib import Path

NEEDED = (
    *("MLFLOW_BACKEND_STORE_URI", "MLFLOW_AUTH_DATABASE_URI", "MLFLOW_ARTIFACTS_DESTINATION"),
    *("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
)
# Every user with a login may read; permission to write is given for each model. The workers log in as administrator. A
# correct password is cached for a minute, because one check takes 0.09 s of CPU time, and a model about 400 requests.
CONFIG = """[mlflow]
default_permission = READ
database_uri = {uri}
auth_cache_ttl_seconds = 60
authorization_function = accounts:authenticate
"""


def command(host: str = "0.0.0.0", port: int = 5000) -> list[str]:
    """The command of MLflow. Artefacts pass through the server, so workers need no key of the store."""
    return ["mlflow", "server", "--host", host, "--port", str(port), "--app-name", "basic-auth", "--serve-artifacts"]


def write_config(folder: Path) -> Path:
    """Write the login settings, which MLflow reads only from a file. It is private, because it contains a password."""
    path = folder / "auth.ini"
    path.touch(mode=0o600)
    # In a configuration file, % must be written as %%.
    path.write_text(CONFIG.format(uri=os.environ["MLFLOW_AUTH_DATABASE_URI"].replace("%", "%%")))
    return path


def main() -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise SystemExit(f"these environment variables must be set: {', '.join(missing)}")
    # MLflow's jobs judge language models. Their eight processes would take 20 s of CPU time at every start.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # The server finds accounts.py, which records who set an alias.
    found = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(found)
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(write_config(Path(tempfile.mkdtemp())))
    os.execvp("mlflow", [*command(), *sys.argv[1:]])


if __name__ == "__main__":
    main()
