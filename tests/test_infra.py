"""The servers' files: no default password, everything named, pinned and watched; and the same pieces as processes."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
GPU = yaml.safe_load((INFRA / "compose.gpu.yaml").read_text())
SERVICES = COMPOSE["services"] | GPU["services"]
EXAMPLE = dict(
    line.split("=", 1) for line in (INFRA / ".env.example").read_text().splitlines() if line and line[0] != "#"
)
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|SESSION_KEY|AUTH_STRING")
ONE_SHOT = {"bucket"}
KNOWN_KEYS = {  # of a service, in the compose specification; a misspelt one would be refused or, worse, passed over
    *("build", "command", "configs", "depends_on", "deploy", "environment", "healthcheck", "image", "networks"),
    *("ports", "restart", "secrets", "shm_size", "volumes"),
}


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The files


def test_every_variable_must_be_set_and_is_explained():
    text = "\n".join(
        line.split("#")[0]
        for name in ("compose.yaml", "compose.gpu.yaml")
        for line in (INFRA / name).read_text().splitlines()
    )
    used = re.findall(r"\$\{(\w+)([^}]*)\}", text)
    assert len(used) == text.count("$") and len(used) > 20
    assert all(rest.startswith(":?") for _, rest in used)
    assert {name for name, _ in used} == set(EXAMPLE)


def test_no_password_stands_anywhere():
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable) and not variable.endswith("_FILE"):
                assert re.fullmatch(r"(\$\{\w+:\?[^}]+\}:?)+", value), f"{name}: {variable}"
    assert not any(value for variable, value in EXAMPLE.items() if SECRET.search(variable))
    for path in INFRA.rglob("*.yaml"):
        assert not re.search(r"://\w+:(?!\$\{)[^@\s]+@", path.read_text()), path.name


def test_images_are_pinned():
    built = {s["image"] for s in SERVICES.values() if "build" in s}
    for image in {s["image"] for s in SERVICES.values()}:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", image), image
    for service in (s for s in SERVICES.values() if "build" in s):
        assert (INFRA / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    for path in INFRA.rglob("Dockerfile"):
        (base,) = re.findall(r"^FROM (\S+)", path.read_text(), re.M)
        assert re.fullmatch(r"python:3\.1[12]\.\d+-slim-bookworm", base)
        assert "USER root" not in path.read_text() and re.search(r"^USER \w+", path.read_text(), re.M)
    lock = (ROOT / "requirements.lock").read_text()
    for package, image in (("mlflow", "fetalflow-mlflow:"), ("prefect", "prefecthq/prefect:")):
        locked = re.search(rf"^{package}==(\S+)", lock, re.M)[1]
        assert any(s["image"].startswith(image + locked) for s in SERVICES.values()), (
            f"{package} is {locked} in the lock"
        )
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert f"fetalflow-worker:{version}" in built


def test_services_are_whole_watched_and_wait_for_each_other():
    for name, service in SERVICES.items():
        assert set(service) <= KNOWN_KEYS, f"{name}: {set(service) - KNOWN_KEYS}"
        assert (name in ONE_SHOT) != ("healthcheck" in service), name
        if "healthcheck" in service:
            assert service["healthcheck"]["test"][0] == "CMD" and {"interval", "timeout", "retries"} <= set(
                service["healthcheck"]
            )
            assert service["restart"] == "unless-stopped"
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert other in SERVICES and how == {"condition": wanted}
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = source in COMPOSE["volumes"] or source.startswith("$") or (INFRA / source).exists()
            assert known, volume


def test_nothing_is_open_to_other_machines_and_databases_to_nobody():
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert COMPOSE["networks"]["servers"]["internal"]
    for name in ("postgres", "store"):
        assert SERVICES[name]["networks"] == ["servers"] and "ports" not in SERVICES[name]
    assert SERVICES["worker"]["networks"] == SERVICES["worker-gpu"]["networks"] == ["workers"]


def test_the_gpu_worker_gets_a_gpu_shared_memory_and_what_the_other_worker_gets():
    gpu, cpu = GPU["services"]["worker-gpu"], COMPOSE["services"]["worker"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert gpu["shm_size"] == "8gb" and "gpu" in gpu["command"]
    for key in ("environment", "secrets", "volumes", "image", "depends_on", "networks"):
        assert gpu[key] == cpu[key], key


def test_kubernetes_manifests_hold_together():
    folder = INFRA / "kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {p.name for p in folder.iterdir()}
    documents = [d for name in listed for d in yaml.safe_load_all((folder / name).read_text())]
    claims = {d["metadata"]["name"] for d in documents if d["kind"] == "PersistentVolumeClaim"}
    workers = [d for d in documents if d["kind"] == "Deployment"]
    assert len(workers) == 2
    for worker in workers:
        pod = worker["spec"]["template"]
        assert worker["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        (container,) = pod["spec"]["containers"]
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        assert {m["name"] for m in container["volumeMounts"]} == set(volumes)
        assert {
            v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v
        } == claims
        assert (
            pod["spec"]["securityContext"]["runAsNonRoot"] and container["livenessProbe"]["httpGet"]["port"] == "health"
        )
        assert container["image"] == SERVICES["worker"]["image"]
        assert all("value" not in variable for variable in container["env"])
        is_gpu = "gpu" in container["args"]
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == is_gpu


def test_the_workers_image_copies_what_is_there():
    text = (INFRA / "worker" / "Dockerfile").read_text()
    sources = [w for line in re.findall(r"^COPY (.+)", text, re.M) for w in line.split()[:-1]]
    allowed = [
        line[1:] for line in (INFRA / "worker" / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"
    ]
    assert sorted(sources) == sorted(allowed)
    assert all((ROOT / source).exists() for source in sources)
    assert {"fetalflow", "stages", "flows", "reviews", "dvc.yaml", "params.yaml"} <= set(sources)


# Secrets


def test_secrets_are_random_private_and_never_overwritten(tmp_path, capsys):
    secrets = load(INFRA / "make_secrets.py")
    words = ["--drops", str(tmp_path), "--key", str(tmp_path / "key")]
    secrets.main(words, tmp_path / "one")
    secrets.main(words, tmp_path / "two")
    one, two = (
        dict(line.split("=", 1) for line in (tmp_path / n).read_text().splitlines() if line and line[0] != "#")
        for n in ("one", "two")
    )
    hidden = {name for name in EXAMPLE if SECRET.search(name)}
    assert set(one) == set(EXAMPLE) and all(one.values()) and one["DROPS"] == str(tmp_path)
    assert all(re.fullmatch(r"[0-9a-f]{48}", one[name]) and one[name] != two[name] for name in hidden)
    assert len({one[name] for name in hidden}) == len(hidden) >= 7
    for name in ("one", "key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert one["POSTGRES_PASSWORD"] not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="stays as it is"):
        secrets.main(words, tmp_path / "one")
    with pytest.raises(SystemExit, match="lies in the repository"):
        secrets.main(["--drops", str(tmp_path), "--key", str(ROOT / "key")], tmp_path / "three")
    assert not (tmp_path / "three").exists()


def test_the_key_made_is_one_that_deidentification_takes(tmp_path):
    pseudonyms = pytest.importorskip("fetalflow.deidentify.pseudonyms")
    load(INFRA / "make_secrets.py").main(["--drops", str(tmp_path), "--key", str(tmp_path / "key")], tmp_path / "env")
    assert pseudonyms.read_key(tmp_path / "key").pseudonym("patient", "x").startswith("P")


# The same pieces as processes


def find_postgres() -> Path | None:
    folders = [Path(p).parent for p in [shutil.which("pg_ctl")] if p] + sorted(
        Path("/usr/lib/postgresql").glob("*/bin")
    )
    return next((f for f in folders if (f / "initdb").is_file()), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


PASSWORDS = {"MLFLOW_DB_PASSWORD": "mlflow-'quoted", "PREFECT_DB_PASSWORD": "prefect-word"}
needs_postgres = pytest.mark.skipif(find_postgres() is None, reason="PostgreSQL's initdb is not on this machine")


@pytest.fixture(scope="module")
def postgres():
    """PostgreSQL on loopback with the databases that infra/postgres/databases.sh makes. Yields its port."""
    programs, port = find_postgres(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="fetalflow-postgres-"))
    user = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        user = {"user": "postgres"}

    def call(*words):
        subprocess.run(words, check=True, capture_output=True, cwd=folder, timeout=60, **user)

    call(
        programs / "initdb", "-D", folder / "data", "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256"
    )
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call(programs / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")
    try:
        access = os.environ | PASSWORDS | {"PGHOST": str(folder), "PGPORT": str(port)}
        script = ["sh", INFRA / "postgres" / "databases.sh"]
        done = subprocess.run(script, env=access, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        yield port
    finally:
        call(programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def started(words, environment, url, log: Path):
    """A server in a process group of its own, once `url` answers."""
    with open(log, "w") as output:
        process = subprocess.Popen(
            words, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    end = time.monotonic() + 150
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return process
        except httpx.HTTPError:
            time.sleep(0.5)
    stop(process)
    raise AssertionError(f"{words[0]} did not answer at {url}:\n{log.read_text()[-3000:]}")


def stop(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def bin_path(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@needs_postgres
def test_prefect_runs_on_postgresql_behind_a_log_in(postgres, tmp_path):
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    word = PASSWORDS["PREFECT_DB_PASSWORD"]
    environment = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect:{word}@127.0.0.1:{postgres}/prefect",
        "PREFECT_SERVER_API_AUTH_STRING": "operator:word",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    assert set(environment) == set(SERVICES["prefect"]["environment"])
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "DO_NOT_TRACK": "1"}
    command = [bin_path("prefect"), *SERVICES["prefect"]["command"][1:3], "--host", "127.0.0.1", "--port", str(port)]
    server = started(command, environment, f"{api}/health", tmp_path / "log")
    try:
        assert httpx.post(f"{api}/work_pools/filter", json={}, timeout=60).status_code == 401
        log_in = ("operator", "word")
        made = httpx.post(f"{api}/work_pools/", json={"name": "cpu", "type": "process"}, auth=log_in, timeout=60)
        assert made.status_code == 201
        found = httpx.post(f"{api}/work_pools/filter", json={}, auth=log_in, timeout=60).json()
        assert [pool["name"] for pool in found] == ["cpu"]
        access = {"PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": "operator:word", "PREFECT_HOME": str(tmp_path)}
        words = [bin_path("fetalflow"), "doctor", "--json", "--pool", "cpu"]
        done = subprocess.run(words, env=os.environ | access, cwd=ROOT, capture_output=True, text=True, timeout=200)
        states = {finding["check"]: finding for finding in json.loads(done.stdout)}
        assert states["prefect"]["state"] == "warn" and "'cpu' without worker" in states["prefect"]["found"]
        assert states["clock"]["state"] == "ok" and "s from that of Prefect" in states["clock"]["found"]
    finally:
        stop(server)


@needs_postgres
def test_mlflow_runs_on_postgresql_behind_a_log_in(postgres, tmp_path, monkeypatch):
    pytest.importorskip("psycopg2", reason="MLflow needs psycopg2 to speak to PostgreSQL; it is in the image only")
    pytest.importorskip("flask_wtf", reason="MLflow's log-in needs flask_wtf; it is in the image only")
    serve = load(INFRA / "mlflow" / "serve.py")
    port = free_port()
    base = f"postgresql+psycopg2://mlflow:{PASSWORDS['MLFLOW_DB_PASSWORD']}@127.0.0.1:{postgres}"
    settings = {
        "MLFLOW_BACKEND_STORE_URI": f"{base}/mlflow",
        "MLFLOW_AUTH_DATABASE_URI": f"{base}/mlflow_auth",
        "MLFLOW_ARTIFACTS_DESTINATION": (tmp_path / "artefacts").as_uri(),
        "MLFLOW_AUTH_ADMIN_USERNAME": "operator",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "a-long-word-of-the-operator",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-sessions",
    }
    assert set(serve.NEEDED) == set(settings) <= set(SERVICES["mlflow"]["environment"])
    driver = settings["MLFLOW_BACKEND_STORE_URI"].split("://")[0]
    assert SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"].startswith(driver + "://")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "config").mkdir()
    config = serve.write_config(tmp_path / "config")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    environment = settings | {"MLFLOW_AUTH_CONFIG_PATH": str(config)}
    command = [bin_path("mlflow"), *serve.command("127.0.0.1", port)[1:], "--workers", "1"]
    url = f"http://127.0.0.1:{port}"
    server = started(command, environment, f"{url}/health", tmp_path / "log")
    try:
        search = f"{url}/api/2.0/mlflow/experiments/search?max_results=5"
        assert httpx.get(search, timeout=60).status_code == 401
        log_in = (settings["MLFLOW_AUTH_ADMIN_USERNAME"], settings["MLFLOW_AUTH_ADMIN_PASSWORD"])
        assert httpx.get(search, auth=log_in, timeout=60).status_code == 200
        (tmp_path / "note.txt").write_text("through the server")
        script = (
            "import mlflow\nwith mlflow.start_run() as run:\n    mlflow.log_metric('a', 1)\n"
            f"    mlflow.log_artifact({str(tmp_path / 'note.txt')!r})\n"
            "print(mlflow.get_run(run.info.run_id).data.metrics['a'], run.info.artifact_uri)"
        )
        access = {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_USERNAME": log_in[0],
            "MLFLOW_TRACKING_PASSWORD": log_in[1],
        }
        client = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | access, capture_output=True, text=True, timeout=120
        )
        assert client.returncode == 0, client.stderr[-2000:]
        assert "1.0 mlflow-artifacts:/" in client.stdout
        assert [p.read_text() for p in (tmp_path / "artefacts").rglob("note.txt")] == ["through the server"]
    finally:
        stop(server)


# The pages


def source_text() -> str:
    """All the program's words, with string literals over several lines joined."""
    files = [p for room in ("fetalflow", "stages", "flows") for p in (ROOT / room).rglob("*.py")]
    text = "\n".join(path.read_text() for path in files)
    return re.sub(r'"\s*\n\s*f?"', "", text).replace("{ANNOTATIONS}", "annotations.csv")


def test_messages_of_the_data_engineers_page_are_those_of_the_program():
    page = (ROOT / "docs" / "data-engineer.md").read_text().split("## When it stops")[1].split("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.M)
    foreign = {"No space left on device"}  # the system's
    text = source_text()
    assert len(messages) >= 15
    for message in set(messages) - foreign:
        assert message in text, message


def test_verbs_and_files_of_the_pages_are_there():
    from flows.cli import app

    groups = {g.name for g in app.registered_groups}
    verbs = {c.name or c.callback.__name__ for c in app.registered_commands} | groups
    for name in ("operator.md", "data-engineer.md"):
        page = (ROOT / "docs" / name).read_text()
        named = set(re.findall(r"fetalflow (\w+)", "\n".join(re.findall(r"`[^`]+`|^(?:fetal|docker).+", page, re.M))))
        assert named and named <= verbs, f"{name}: {named - verbs}"
        for path in re.findall(r"infra/[\w./-]*\w", page):
            assert (ROOT / path).exists() or path == "infra/.env", path
        for link in re.findall(r"\]\((\w[\w.-]+\.md)\)", page):
            assert (ROOT / "docs" / link).is_file(), link
