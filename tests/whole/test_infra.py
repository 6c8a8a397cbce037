"""The servers' files: by their schema, no default password, everything named, pinned and watched. The same pieces as
processes: tests/whole/test_night.py."""

import json
import re
import shutil
import stat
import subprocess

import jsonschema
import pytest
import yaml
from processes import ROOT
from servers import INFRA, load

COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
GPU = yaml.safe_load((INFRA / "compose.gpu.yaml").read_text())
SERVICES = COMPOSE["services"] | GPU["services"]
EXAMPLE = dict(
    line.split("=", 1) for line in (INFRA / ".env.example").read_text().splitlines() if line and line[0] != "#"
)
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|SESSION_KEY|AUTH_STRING")
ONE_SHOT = {"bucket"}


# The files


def faults(document: dict) -> list[str]:
    schema = json.loads((ROOT / "tests" / "material" / "schemas" / "compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(document)]


@pytest.mark.parametrize("path", sorted(INFRA.glob("compose*.yaml")), ids=lambda path: path.name)
def test_compose_files_fit_the_specification(path):
    """As written, and with every variable filled in, as compose reads it."""
    text = path.read_text()
    filled = re.sub(r"\$\{\w+:\?[^}]+\}", "/value", text)
    assert "$" not in re.sub(r"#.*", "", filled)
    assert faults(yaml.safe_load(text)) == faults(yaml.safe_load(filled)) == []
    for wrong in ("restart", "healthcheck", "shm_size"):
        document = yaml.safe_load(filled)
        service = next(service for service in document["services"].values() if wrong in service)
        service[f"{wrong}s"] = service.pop(wrong)
        assert f"'{wrong}s' was unexpected" in faults(document)[0]


def test_compose_itself_reads_the_files_where_it_is_installed(tmp_path):
    words = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*words, "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not on this machine")
    (tmp_path / "env").write_text("".join(f"{name}={value or '/value'}\n" for name, value in EXAMPLE.items()))
    files = ["-f", INFRA / "compose.yaml", "-f", INFRA / "compose.gpu.yaml", "--env-file", tmp_path / "env"]
    done = subprocess.run(
        [*words, *files, "config", "--quiet"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "env").write_text("")
    done = subprocess.run(
        [*words, *files, "config", "--quiet"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode and "make_secrets.py" in done.stderr


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


def test_mlflow_is_told_all_that_it_needs_and_its_password_stays_private(tmp_path, monkeypatch):
    serve = load(INFRA / "mlflow" / "serve.py")
    assert set(serve.NEEDED) <= set(SERVICES["mlflow"]["environment"])
    monkeypatch.setenv("MLFLOW_AUTH_DATABASE_URI", "postgresql://mlflow:%27@postgres/mlflow_auth")
    config = serve.write_config(tmp_path)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600 and "%%27" in config.read_text()
    monkeypatch.delenv("MLFLOW_AUTH_DATABASE_URI")
    with pytest.raises(SystemExit, match="MLFLOW_AUTH_DATABASE_URI"):
        serve.main()


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
    for key in ("environment", "env_file", "secrets", "volumes", "image", "depends_on", "networks"):
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
    with pytest.raises(SystemExit, match="is in the repository"):
        secrets.main(["--drops", str(tmp_path), "--key", str(ROOT / "key")], tmp_path / "three")
    assert not (tmp_path / "three").exists()


def test_the_key_made_is_one_that_deidentification_takes(tmp_path):
    pseudonyms = pytest.importorskip("fetalflow.hospital.deidentify.pseudonyms")
    load(INFRA / "make_secrets.py").main(["--drops", str(tmp_path), "--key", str(tmp_path / "key")], tmp_path / "env")
    assert pseudonyms.read_key(tmp_path / "key").pseudonym("patient", "x").startswith("P")


# The pages


def source_text() -> str:
    """All the program's words, with string literals over several lines joined."""
    files = [p for room in ("fetalflow", "stages", "flows") for p in (ROOT / room).rglob("*.py")]
    text = "\n".join(path.read_text() for path in files)
    return re.sub(r'"\s*\n\s*f?"', "", text).replace("{ANNOTATIONS}", "annotations.csv")


def test_messages_of_the_data_engineers_page_are_those_of_the_program():
    page = (ROOT / "docs" / "data-engineer" / "arrivals.md").read_text().split("## When it stops")[1].split("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.M)
    foreign = {"No space left on device"}  # the system's
    text = source_text()
    assert len(messages) >= 15
    for message in set(messages) - foreign:
        assert message in text, message


def test_verbs_and_files_of_the_pages_are_there():
    from flows.cli.app import app

    groups = {g.name for g in app.registered_groups}
    verbs = {c.name or c.callback.__name__ for c in app.registered_commands} | groups
    for name in ("operator/operations.md", "data-engineer/arrivals.md"):
        page = (ROOT / "docs" / name).read_text()
        named = set(re.findall(r"fetalflow (\w+)", "\n".join(re.findall(r"`[^`]+`|^(?:fetal|docker).+", page, re.M))))
        assert named and named <= verbs, f"{name}: {named - verbs}"
        for path in re.findall(r"infra/[\w./-]*\w", page):
            assert (ROOT / path).exists() or path in ("infra/.env", "infra/.env.inbox"), path
        for link in re.findall(r"\]\((?!https?:)([\w./-]+\.md)[)#]", page):
            assert ((ROOT / "docs" / name).parent / link).is_file(), link
