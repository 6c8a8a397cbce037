"""The servers' files: by their schema, no default password, everything named, pinned and watched. The same pieces as
processes: tests/whole/test_night.py."""

import json
import os
import re
import shutil
import stat
import subprocess
from importlib.resources import files
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from processes import ROOT
from servers import INFRA, load

from fetalflow.registry.ledger.anchor import read_anchor
from fetalflow.service.limits import MEGABYTE, Limits
from flows.cli.serve import GRACE_S

COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
GPU = yaml.safe_load((INFRA / "compose.gpu.yaml").read_text())
HOSPITAL = yaml.safe_load((INFRA / "compose.hospital.yaml").read_text())
COMPOSE_FILES = ("compose.yaml", "compose.gpu.yaml", "compose.hospital.yaml")
SERVICES = COMPOSE["services"] | GPU["services"] | HOSPITAL["services"]
SECRETS = COMPOSE["secrets"] | HOSPITAL["secrets"]
EXAMPLE = dict(
    line.split("=", 1) for line in (INFRA / ".env.example").read_text().splitlines() if line and line[0] != "#"
)
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|SESSION_KEY|AUTH_STRING|TOKEN")
ONE_SHOT = {"bucket"}
OF_BUILDS = "${FETALFLOW_COMMIT:-}"  # not in .env: each build has its own, and the Dockerfile stops without one


# The files


def schema_of(name: str) -> dict:
    return json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / f"{name}.json").read_text("utf-8"))


def faults(document: dict) -> list[str]:
    schema = schema_of("compose-spec")
    validator = jsonschema.validators.validator_for(schema)(schema)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(document)]


@pytest.mark.parametrize("path", sorted(INFRA.glob("compose*.yaml")), ids=lambda path: path.name)
def test_compose_files_fit_the_specification(path):
    """As written, and with every variable filled in, as compose reads it."""
    text = path.read_text().replace(OF_BUILDS, "a-commit")
    filled = re.sub(r"\$\{\w+:\?[^}]+\}", "/value", text)
    assert "$" not in re.sub(r"#.*", "", filled)
    assert faults(yaml.safe_load(text)) == faults(yaml.safe_load(filled)) == []
    for wrong in ("restart", "healthcheck", "pids_limit"):
        document = yaml.safe_load(filled)
        service = next(service for service in document["services"].values() if wrong in service)
        service[f"{wrong}s"] = service.pop(wrong)
        assert f"'{wrong}s' was unexpected" in faults(document)[0]


def test_compose_itself_reads_the_files_where_it_is_installed(tmp_path):
    words = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*words, "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not on this machine")
    (tmp_path / "env").write_text("".join(f"{name}={value or '/value'}\n" for name, value in EXAMPLE.items()))
    files = [word for name in COMPOSE_FILES for word in ("-f", INFRA / name)] + ["--env-file", tmp_path / "env"]
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
        for name in COMPOSE_FILES
        for line in (INFRA / name).read_text().replace(OF_BUILDS, "").splitlines()
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
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", image), image
    for service in (s for s in SERVICES.values() if "build" in s):
        assert (INFRA / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    for path in INFRA.rglob("Dockerfile"):
        (base,) = re.findall(r"^FROM (\S+)", path.read_text(), re.M)
        assert re.fullmatch(r"python:3\.1[12]\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?", base)
        assert "USER root" not in path.read_text() and re.search(r"^USER \w+", path.read_text(), re.M)
    lock = (ROOT / "requirements.lock").read_text()
    for package, image in (("mlflow", "fetalflow-mlflow:"), ("prefect", "prefecthq/prefect:")):
        locked = re.search(rf"^{package}==(\S+)", lock, re.M)[1]
        assert any(s["image"].startswith(image + locked) for s in SERVICES.values()), (
            f"{package} is {locked} in the lock"
        )
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert f"fetalflow-worker:{version}" in built


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """A program that gives each image another digest, as a registry does."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor last; do :; done\necho "sha256:$(printf %s "$last" | sha256sum | cut -c1-64)"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return program


def test_digests_are_written_beside_the_tags_and_only_once(tmp_path, docker, capsys):
    pin, folder = load(INFRA / "pin_images.py"), tmp_path / "infra"
    shutil.copytree(INFRA, folder, ignore=shutil.ignore_patterns(".env", "__pycache__"))
    pin.main([], folder)
    once = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    pin.main(["--check"], folder)
    pin.main([], folder)
    assert {path: path.read_text() for path in once} == once
    services = [s for name in COMPOSE_FILES
                for s in yaml.safe_load((folder / name).read_text())["services"].values()]  # fmt: skip
    assert len(services) == len(SERVICES) and all(("@sha256:" in s["image"]) != ("build" in s) for s in services)
    for path in folder.rglob("Dockerfile"):
        assert re.search(r"^FROM python:\S+@sha256:[0-9a-f]{64}$", path.read_text(), re.M)
    # A tag that is changed without its digest, and a registry that does not answer.
    changed = folder / "worker" / "Dockerfile"
    changed.write_text(re.sub(r"@sha256:\w+", "", changed.read_text()))
    with pytest.raises(SystemExit, match="worker/Dockerfile: python:"):
        pin.main(["--check"], folder)
    docker.write_text("#!/bin/sh\necho no such image >&2; exit 1\n")
    with pytest.raises(SystemExit, match="no such image"):
        pin.main([], folder)
    assert "@sha256" not in changed.read_text()


def test_no_service_has_rights_of_root_or_writes_outside_its_volumes():
    for name, service in SERVICES.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and service["pids_limit"], name
        assert not {"privileged", "network_mode", "pid", "devices"} & set(service), name
        assert not service.get("cap_add") or name == "store"
        targets = [volume.split(":")[1] for volume in service.get("volumes", [])]
        assert "/tmp" in [*targets, *(place.split(":")[0] for place in service.get("tmpfs", []))], name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name


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
        assert set(service.get("secrets", [])) <= set(SECRETS)
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
    deployments = {d["metadata"]["name"]: d for d in documents if d["kind"] == "Deployment"}
    assert set(deployments) == {"worker", "worker-gpu", *HOSPITAL["services"]}
    workers = [d for name, d in deployments.items() if name.startswith("worker")]
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        wrong = workers[0] | {"spec": workers[0]["spec"] | {"replica": 1}}
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)
    for name, deployment in deployments.items():
        pod = deployment["spec"]["template"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        (container,) = pod["spec"]["containers"]
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        assert {m["name"] for m in container["volumeMounts"]} == set(volumes)
        claimed = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
        of_workers = set() if deployment in workers else {"heads"}
        assert claimed == claims - of_workers - ({"drops"} if name in ("serve", "station") else set())
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        (port,) = container["ports"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            (how,) = {"httpGet", "tcpSocket"} & set(container[probe])
            assert container[probe][how]["port"] == port["name"]
        assert container["image"] == SERVICES["worker"]["image"]
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory", "ephemeral-storage"} == set(container["resources"]["requests"])
        assert {"memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
        assert pod["spec"]["securityContext"]["fsGroup"] == pod["spec"]["securityContext"]["runAsGroup"]
        for mount in (m for m in container["volumeMounts"] if "secret" in volumes[m["name"]]):
            assert mount["readOnly"] and volumes[mount["name"]]["secret"]["defaultMode"] == 0o440
        for variable in container.get("env", ()):
            is_secret = variable["name"] != "FETALFLOW_LEDGER"
            assert variable["name"].endswith("_FILE") or not is_secret, "a secret is a file and no variable"
            assert any(Path(variable["value"]).parent == Path(m["mountPath"]) for m in container["volumeMounts"])
    for worker in workers:
        (container,) = worker["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"]["port"] == "health"
        assert {variable["name"]: variable["value"] for variable in container["env"]} == {
            "FETALFLOW_PSEUDONYM_KEY_FILE": "/run/secrets/pseudonym/key",
            "FETALFLOW_ALERTS_FILE": "/run/secrets/alerts/addresses",
            "FETALFLOW_LEDGER": "/run/ledger/ledger.json",
        }
        is_gpu = "gpu" in container["args"]
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == is_gpu


def test_every_secret_and_table_that_a_manifest_reads_is_made_by_a_command_of_the_list():
    """And the list itself, of which the schema of Kubernetes knows nothing."""
    folder = INFRA / "kubernetes"
    text = (folder / "kustomization.yaml").read_text()
    wanted = set()
    for path in folder.glob("*.yaml"):
        found = path.read_text()
        wanted |= {
            ("secret generic", name) for name in re.findall(r"(?:secretName: |secretRef: \{name: )([\w-]+)", found)
        }
        wanted |= {("configmap", name) for name in re.findall(r"configMap(?:Ref)?: \{name: ([\w-]+)", found)}
    assert wanted == set(re.findall(r"^# .*create (secret generic|configmap) ([\w-]+) ", text, re.M))
    listed = yaml.safe_load(text)
    assert set(listed) == {"apiVersion", "kind", "namespace", "resources", "images"}
    assert [(image["name"], str(image["newTag"])) for image in listed["images"]] == [
        tuple(SERVICES["worker"]["image"].split(":"))
    ]


def test_the_heads_of_the_ledger_go_to_a_place_outside_of_the_workspaces(tmp_path, monkeypatch):
    """Compose and Kubernetes: ledger.json can only be read, and what it names can be written."""
    secrets = load(INFRA / "make_secrets.py")
    secrets.make_ledger(tmp_path / "ledger")
    file = tmp_path / "ledger" / "ledger.json"
    monkeypatch.setenv("FETALFLOW_LEDGER", str(file))
    (target,) = read_anchor().export
    assert stat.S_IMODE(file.stat().st_mode) == 0o644, "the workers' user reads it"
    for service in (COMPOSE["services"]["worker"], GPU["services"]["worker-gpu"]):
        assert f"heads:{Path(target).parent}" in service["volumes"]
        (read,) = [volume for volume in service["volumes"] if "LEDGER_FOLDER" in volume]
        assert read.endswith(f":{Path(service['environment']['FETALFLOW_LEDGER']).parent}:ro")
    assert f"chown fetalflow: workspaces {Path(target).parent}" in (INFRA / "worker" / "Dockerfile").read_text()
    assert json.loads(re.search(r"at first (\{.*\})", (INFRA / "kubernetes/kustomization.yaml").read_text())[1]) == {
        "export": [target]
    }
    file.write_text("{}")
    secrets.make_ledger(tmp_path / "ledger")
    assert file.read_text() == "{}", "one that was sealed stays"


@pytest.mark.parametrize("name", HOSPITAL["services"])
def test_what_the_hospital_uses_is_called_with_options_that_the_verb_has(name):
    from importlib import import_module

    from typer import Typer
    from typer.main import get_command

    verb = getattr(import_module(f"flows.cli.{name}"), name)
    if not isinstance(verb, Typer):
        app = Typer()
        app.command()(verb)
        verb = app
    known = {option for parameter in get_command(verb).params for option in parameter.opts}
    (pod,) = [
        d for d in yaml.safe_load_all((INFRA / "kubernetes" / f"{name}.yaml").read_text()) if d["kind"] == "Deployment"
    ]
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    for words in (SERVICES[name]["command"], container["args"]):
        assert words[:2] == ["fetalflow", name]
        assert {word for word in words if word.startswith("--")} <= known
    assert f":{container['ports'][0]['containerPort']}" in SERVICES[name]["ports"][0]


@pytest.mark.parametrize(("name", "schema"), [("github", "github-workflows"), ("gitlab", "gitlab-ci")])
def test_the_templates_for_the_ci_of_a_team_fit_its_schema_and_call_what_is_there(name, schema):
    text = (INFRA / "ci" / f"{name}.yml").read_text()
    # YAML reads the key `on` as true.
    document = {"on" if key is True else key: value for key, value in yaml.safe_load(text).items()}
    validator = jsonschema.validators.validator_for(schema_of(schema))(schema_of(schema))
    assert not [error.message for error in validator.iter_errors(document)]
    for words in ("make lint", "make test", "dvc repro --dry", "fetalflow promote --dry-run", "make audit"):
        assert words in text
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"^ *- (?:run: )?make ([a-z]+)$", text, re.M)) <= set(targets)
    for path in re.findall(r"python (infra/\S+)", text):
        assert (ROOT / path).is_file()
    assert not re.search(r"PASSWORD: (?!\$)", text)


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
    worker = os.geteuid()  # only root can give the key to another user
    secrets.main(words, tmp_path / "one", worker)
    secrets.main(words, tmp_path / "two", worker)
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
        secrets.main(words, tmp_path / "one", worker)
    with pytest.raises(SystemExit, match="is in the repository"):
        secrets.main(["--drops", str(tmp_path), "--key", str(ROOT / "key")], tmp_path / "three")
    assert not (tmp_path / "three").exists()


def test_the_key_made_is_one_that_deidentification_takes(tmp_path):
    pseudonyms = pytest.importorskip("fetalflow.hospital.deidentify.pseudonyms")
    words = ["--drops", str(tmp_path), "--key", str(tmp_path / "key")]
    load(INFRA / "make_secrets.py").main(words, tmp_path / "env", os.geteuid())
    assert pseudonyms.read_key(tmp_path / "key").pseudonym("patient", "x").startswith("P")


@pytest.mark.parametrize(("mode", "owner"), [(0o600, 1), (0o640, 0), (0o604, 0), (0o200, 0)])
def test_a_key_that_the_worker_cannot_read_or_others_can_stops_before_the_servers_are_set_up(tmp_path, mode, owner):
    """`owner`: 1 for another user than the worker. This is how an ordinary user leaves a new key."""
    (key := tmp_path / "key").write_text("ab" * 32)
    key.chmod(mode)
    words = ["--drops", str(tmp_path), "--key", str(key)]
    with pytest.raises(SystemExit, match=r"chown (\d+):\1 .*key && sudo chmod 600"):
        load(INFRA / "make_secrets.py").main(words, tmp_path / "env", os.geteuid() + owner)
    assert key.read_text() == "ab" * 32 and not (tmp_path / "env").exists()


def test_an_ordinary_user_is_not_left_with_a_key_that_only_he_can_read(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="sudo chown 10001:10001"):
        load(INFRA / "make_secrets.py").main(
            ["--drops", str(tmp_path), "--key", str(tmp_path / "key")], tmp_path / "env"
        )
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600 and not (tmp_path / "env").exists()


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
    for name in ("operator/operations.md", "operator/first-day.md", "data-engineer/arrivals.md"):
        page = (ROOT / "docs" / name).read_text()
        named = set(re.findall(r"fetalflow (\w+)", "\n".join(re.findall(r"`[^`\n]+`|^(?:fetal|docker).+", page, re.M))))
        assert named and named <= verbs, f"{name}: {named - verbs}"
        for path in re.findall(r"infra/[\w./-]*\w", page):
            assert (ROOT / path).exists() or path in ("infra/.env", "infra/.env.inbox", "infra/.env.alerts"), path
        for link in re.findall(r"\]\((?!https?:)([\w./-]+\.md)[)#]", page):
            assert ((ROOT / "docs" / name).parent / link).is_file(), link


def test_the_service_has_room_for_what_it_takes_and_time_to_answer_it():
    """A pod whose memory for files is full is evicted, and all its answers are lost."""
    deployment = next(yaml.safe_load_all((INFRA / "kubernetes" / "serve.yaml").read_text()))
    pod = deployment["spec"]["template"]["spec"]
    given = pod["containers"][0]["args"]
    workers, megabytes, frames = (float(given[given.index(f"--{n}") + 1]) for n in ("workers", "max-mb", "max-cine-mb"))
    limits = Limits(max_bytes=round(megabytes * MEGABYTE))
    needed = 2 * limits.max_bytes_together + (workers + 1) * frames * MEGABYTE  # one worker more is in shadow
    (scratch,) = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume]
    assert needed < float(scratch.removesuffix("Gi")) * 2**30
    assert pod["terminationGracePeriodSeconds"] > limits.seconds + GRACE_S
    assert float(HOSPITAL["services"]["serve"]["stop_grace_period"].removesuffix("s")) > limits.seconds + GRACE_S
