"""PostgreSQL, an S3 store, MLflow, Prefect and its worker as processes on loopback: context managers for tests.

Each comes back once it answers and ends with the block. `access` is the environment of a client that logs in.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import httpx
import pytest
from processes import BIN, ROOT, START_S, Server, environ, free_port, running, wait_for

INFRA = ROOT / "infra"
PASSWORDS = {"MLFLOW_DB_PASSWORD": "mlflow-'quoted", "PREFECT_DB_PASSWORD": "prefect-word"}
MLFLOW_LOG_IN = ("operator", "a-long-word-of-the-operator")
PREFECT_LOG_IN = ("operator", "another-word")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# PostgreSQL


def find_postgres() -> Path | None:
    """The folder of its programs; a distribution links some of them elsewhere."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [Path(program).parent for program in [shutil.which("pg_ctl")] if program]
    needed = ("initdb", "pg_ctl", "pg_dump", "pg_restore", "createdb", "psql")
    return next((folder for folder in folders if all((folder / name).is_file() for name in needed)), None)


needs_postgres = pytest.mark.skipif(
    find_postgres() is None, reason="PostgreSQL's programs are not on this machine: apt-get install postgresql"
)


@dataclass(frozen=True)
class Postgres:
    """A server on loopback; `folder` is open to the user that it runs as."""

    programs: Path
    folder: Path
    port: int
    user: dict[str, str]

    def url(self, database: str, driver: str = "psycopg2") -> str:
        """Of a database that infra/postgres/databases.sh makes, with its role's password."""
        role = database.partition("_")[0]
        word = quote(PASSWORDS[f"{role.upper()}_DB_PASSWORD"])
        return f"postgresql+{driver}://{role}:{word}@127.0.0.1:{self.port}/{database}"

    def call(self, program: str, *words: str | Path) -> str:
        """One of PostgreSQL's programs as its administrator. Raises AssertionError with what it says."""
        access = environ({"PGHOST": str(self.folder), "PGPORT": str(self.port), "PGUSER": "postgres"})
        done = subprocess.run(
            [self.programs / program, *words], env=access, cwd=self.folder, capture_output=True, text=True, timeout=60,
            **self.user,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout


@contextmanager
def postgres() -> Iterator[Postgres]:
    """PostgreSQL with the databases that infra/postgres/databases.sh makes, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="fetalflow-postgres-"))
    user = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        user = {"user": "postgres"}
    server = Postgres(find_postgres(), folder, free_port(), user)
    data = folder / "data"
    log_in = ("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync")
    server.call("initdb", "-D", data, "-U", "postgres", *log_in)
    options = f"-p {server.port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    server.call("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        access = environ(PASSWORDS, {"PGHOST": str(folder), "PGPORT": str(server.port)})
        script = ["sh", INFRA / "postgres" / "databases.sh"]
        done = subprocess.run(script, env=access, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        yield server
    finally:
        server.call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


# S3


def store_access(endpoint: str) -> dict[str, str]:
    """The usual variables of a client. A file of the machine's user must not come in between."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@contextmanager
def s3_store(folder: Path, page: int = 1000) -> Iterator[Server]:
    """An empty store that speaks S3 and keeps everything in its process's memory (moto). page: keys in one answer."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = [BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    environment = environ({"MOTO_S3_DEFAULT_MAX_KEYS": str(page)})
    with running(words, environment, url, folder / "store.log", f"{url}/moto-api/") as server:
        server.access = store_access(url)
        yield server


def s3_client(store: Server):
    import boto3

    return boto3.client(
        "s3", endpoint_url=store.url, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )


# MLflow


@contextmanager
def mlflow_server(
    folder: Path,
    database: Postgres | None = None,
    store: Server | None = None,
    port: int | None = None,
    databases: tuple[str, str] = ("mlflow", "mlflow_auth"),
    bucket: str = "fetalflow",
) -> Iterator[Server]:
    """MLflow with log-in as its image starts it, artefacts through the server. Without `database` on SQLite, without
    `store` on files, both in `folder`; with the same `port` and `folder` it is the same server again."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    local = [f"sqlite:///{folder / name}.db" for name in databases]
    tables, users = [database.url(name) for name in databases] if database else local
    settings = {
        "MLFLOW_BACKEND_STORE_URI": tables,
        "MLFLOW_AUTH_DATABASE_URI": users,
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket}/mlflow" if store else (folder / "artefacts").as_uri(),
        "MLFLOW_AUTH_ADMIN_USERNAME": MLFLOW_LOG_IN[0],
        "MLFLOW_AUTH_ADMIN_PASSWORD": MLFLOW_LOG_IN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-sessions",
    }
    environment = environ(settings)
    if store:
        environment |= store.access | {"MLFLOW_S3_ENDPOINT_URL": store.url, "STORE_BUCKET": bucket}
        made = [sys.executable, INFRA / "mlflow" / "make_bucket.py"]
        subprocess.run(made, env=environment, check=True, capture_output=True, timeout=60)
    serve = [sys.executable, INFRA / "mlflow" / "serve.py", "--host", "127.0.0.1"]
    with running(
        [*serve, "--port", str(port), "--workers", "1"], environment, url, folder / "log", f"{url}/health"
    ) as server:
        server.access = {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_USERNAME": MLFLOW_LOG_IN[0],
            "MLFLOW_TRACKING_PASSWORD": MLFLOW_LOG_IN[1],
        }
        yield server


# Prefect


@contextmanager
def prefect_server(
    folder: Path,
    database: Postgres | None = None,
    port: int | None = None,
    services: bool = True,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Prefect with log-in; `url` is that of its API. Without `database` on SQLite in `folder`. Without `services`, such
    as the scheduler, it only answers, and takes no processor time in between. settings: more variables."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    api = f"http://127.0.0.1:{port}/api"
    log_in = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_API_AUTH_STRING": ":".join(PREFECT_LOG_IN)}
    environment = environ(log_in, settings or {})
    if database:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url("prefect", "asyncpg")
    words = [BIN / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    words += [] if services else ["--no-services", "--no-ui"]
    with running(words, environment, api, folder / "prefect.log", f"{api}/health") as server:
        server.access = {
            "PREFECT_API_URL": api,
            "PREFECT_API_AUTH_STRING": ":".join(PREFECT_LOG_IN),
            "PREFECT_HOME": str(folder / "client"),
        }
        yield server


@contextmanager
def worker(folder: Path, *access: Mapping[str, str], pool: str = "cpu") -> Iterator[Server]:
    """A worker of a process pool, which it makes if there is none. access: of Prefect, of MLflow, and what else its
    runs need."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    polls = {"PREFECT_WORKER_QUERY_SECONDS": "3", "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
    environment = environ(*access, polls, {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1"})
    words = [BIN / "prefect", "worker", "start", "--pool", pool, "--type", "process", "--limit", "1"]
    with running([*words, "--with-healthcheck"], environment, url, folder / "worker.log", f"{url}/health") as server:
        wait_for(lambda: _is_online(environment, pool), START_S, server.log.read_text)
        yield server


def _is_online(environment: Mapping[str, str], pool: str) -> bool:
    url = f"{environment['PREFECT_API_URL']}/work_pools/{pool}/workers/filter"
    log_in = tuple(environment["PREFECT_API_AUTH_STRING"].split(":"))
    answer = httpx.post(url, json={}, auth=log_in, timeout=60, verify=False)
    return answer.status_code == 200 and any(worker["status"] == "ONLINE" for worker in answer.json())
