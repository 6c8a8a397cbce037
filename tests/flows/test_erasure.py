"""A patient is erased from every place where a checkout keeps data of patients, and the registry works after it."""

import io
import json
import shutil
import unicodedata
import zipfile
from html import escape
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest
import yaml
from finished_run import FRAMES, LABELS, SIZE, TASK, export, make_finished_run
from inbox_folder import deliver, rows_of, taken
from name_search import contents
from typer.testing import CliRunner

import stages.register
from fetalflow.annotation.journal import JOURNAL, Event, Journal
from fetalflow.artefacts import write_json
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.withdrawal import read_withdrawn
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.hospital.drop.spelling import near
from fetalflow.models.building import build
from fetalflow.models.weights import read, save
from fetalflow.node.forgetting import Removed
from fetalflow.node.receipts import COLUMNS, HELD, Receipt, Receipts
from fetalflow.promotion.verdict import act, judge
from fetalflow.registry.candidates import people_of
from fetalflow.registry.client import Registry
from fetalflow.registry.ledger.record import verify
from fetalflow.registry.lineage import trace
from fetalflow.registry.traces import KEPT, REMOVED, REWRITTEN, Traces, objects_of
from fetalflow.registry.tracking import registry
from fetalflow.registry.usable import withdrawn_among, withdrawn_here
from fetalflow.settings.params import load_settings
from flows.care import erasure, stores
from flows.care.nodes import erase_from_nodes
from flows.cli.app import app
from flows.retrain import prepare_workspace

WHO = ("--by", "Ada", "--reason", "consent withdrawn")
VARIANT, MODEL = "fetalmovnet", "fetal-movement"
SOURCE, OTHER = "ab" * 32, "cd" * 32


def invoke(*words: str) -> str:
    done = CliRunner().invoke(app, [*words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A workspace whose DVC has a cache and a remote, with a champion and its evidence, and a challenger."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("checkout")
    folder = make_finished_run(root / "workspaces" / "demo", (VARIANT,), explain=False)
    with pytest.MonkeyPatch.context() as patch:
        for module in (erasure, stores):
            patch.setattr(module, "CHECKOUT", root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        explain_and_report(folder)
        stages.register.main(TASK)
        settings = load_settings()
        assert act(judge(TASK, settings) | {"failed": []}, settings, "Ada"), "the first champion"
        package, (_, config) = folder / "models" / TASK / VARIANT, read(folder / "models" / TASK / VARIANT)
        facts = {k: v for k, v in config.items() if k not in ("weights", "familiarity", "versions")}
        save(folder / "other", build(VARIANT, FRAMES, SIZE, len(LABELS)), facts)
        shutil.rmtree(package)
        shutil.move(folder / "other", package)
        export(folder, VARIANT)
        for of_earlier_weights in (folder / "reports" / TASK / "evaluation").glob("*certainty*"):
            of_earlier_weights.unlink()
        stages.register.main(TASK)
        station = (f"station/{place}/abc.npy" for place in ("frames", "recorded", "answers"))
        for left in ("starts/movement/abc/model.safetensors", "checkpoints/abc/last.ckpt", *station):
            (folder / left).parent.mkdir(parents=True)
            (folder / left).touch()
        with Repo.init(str(folder), no_scm=True) as repo:
            with repo.config.edit() as config:
                config["remote"]["store"] = {"url": str(root / "remote")}
                config["core"] |= {"remote": "store", "analytics": False}
            repo.add([f"data/{TASK}/sequences", f"data/{TASK}/manifest.parquet", f"reports/{TASK}/explain"])
            repo.push()
        yield root


def explain_and_report(folder: Path) -> None:
    """In place of two stages: pictures of test patients, a page that has them, and the list of the pictures."""
    reports, split = folder / "reports" / TASK, pd.read_parquet(folder / "data" / TASK / "split.parquet")
    tested = sorted(split.loc[split["part"] == "test", "sequence"])
    write_json(reports / "explain" / "explain.json", {"figures": tested})
    for name in ("overview", f"mistake-{tested[0]}"):
        (reports / "explain" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (reports / "report.html").write_text(f"<p>{tested[0]}</p>")


def patients(folder: Path) -> dict[str, set[str]]:
    split = pd.read_parquet(folder / "data" / TASK / "split.parquet")
    return {part: set(rows["patient"]) for part, rows in split.groupby("part")}


def sources(folder: Path, patient: str) -> set[str]:
    manifest = pd.read_parquet(folder / "data" / TASK / "manifest.parquet")
    return set(manifest.loc[manifest["patient"] == patient, "source"].str[:12])


def mark_every_cine(folder: Path) -> None:
    """Somebody labelled every cine in the review station."""
    every = pd.read_parquet(folder / "data" / TASK / "manifest.parquet")["source"].unique()
    events = [Event("ann", TASK, source, source[:32], "mark", {"id": source[:32]}) for source in every]
    Journal(folder / JOURNAL).add(events)


def still_there(root: Path, words: set[str]) -> list[str]:
    """Files under `root` that hold a word, in their names, their text or what is packed in them."""
    found = []
    for path in sorted(root.rglob("*")):
        if not path.is_file() or {"code", "__pycache__"} & set(path.parts) or path.suffix == ".safetensors":
            continue
        data = path.read_bytes()
        texts = contents(data)
        if data[:4] == b"PAR1":
            texts.append(pd.read_parquet(io.BytesIO(data)).to_csv().encode())
        if any(word in path.name or any(word.encode() in text for text in texts) for word in words):
            found.append(path.relative_to(root).as_posix())
    return found


def test_a_patient_is_gone_from_everywhere_and_promotion_goes_on(checkout):
    folder = checkout / "workspaces" / "demo"
    her = min(patients(folder)["test"])
    cines = sources(folder, her)
    mark_every_cine(folder)
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file() and path.suffix != ".db"}
    plan = invoke("erase", her, "--plan")
    assert {p: p.read_bytes() for p in checkout.rglob("*") if p.is_file() and p.suffix != ".db"} == before
    assert sum(any(cine in path.name for cine in cines) for path in before) >= len(cines)

    said = invoke("erase", her, *WHO)
    named = {Path(path).name for path in still_there(checkout, {her, *cines})}
    assert all(name.startswith("erased-") for name in named), f"only the certificate names her: {named}"
    assert [*(checkout / "workspaces").glob("*/station/*")] == []
    assert Journal(folder / JOURNAL).events(TASK), "the marks on the cines of others stay"
    for counted in (
        "folders starts",
        "folders checkpoints",
        "folders station/recorded",
        "objects of DVC's cache",
        "objects of the remote store",
    ):
        assert counted in said and counted in plan
    assert f"Remains: weights: {MODEL} version 1 was tested on her, not trained, now champion." in said
    certificate = json.loads(next((checkout / "workspaces" / "erasures").glob("*.json")).read_text())
    assert certificate["patient"] == her and certificate["mlflow"][0]["runs"] == 2
    found = verify()
    assert not found.wrong
    assert any("changed on purpose" in note and "by Ada: a patient was erased" in note for note in found.notes)
    with registry() as store:
        assert not trace(store, her).uses and len(trace(store, certificate["instead"]).uses) == 2
    verdict = judge(TASK, load_settings())
    assert verdict["test"]["patients"] == len(patients(folder)["test"]) and verdict["champion"]["version"] == "1"
    assert not [rule for rule in verdict["failed"] if "withdr" in rule], "she was in no training"
    with pytest.raises(InputError, match="nothing of this patient"):
        invoke("erase", her, *WHO)


def test_versions_that_were_trained_on_her_stay_refused(checkout, monkeypatch):
    monkeypatch.setattr(Registry, "local_artefacts", lambda self, run: None)  # by MLflow's calls, as on a server
    folder = checkout / "workspaces" / "demo"
    her = max(patients(folder)["train"])
    cines = sources(folder, her)
    assert "version 2 was trained on her, now challenger" in invoke("erase", her, *WHO)
    assert not still_there(folder / "mlartifacts", {her, *cines})
    with registry() as store:
        for version in ("1", "2"):
            run = store.client.get_run(store.run_of(MODEL, version)).data.tags["mlflow.parentRunId"]
            assert withdrawn_among(people_of(store, run), withdrawn_here()) == 1


def test_a_call_after_a_kill_finds_the_rest(checkout, monkeypatch):
    folder = checkout / "workspaces" / "demo"
    her = max(patients(folder)["test"])
    cines, rid, calls = sources(folder, her), Traces.rid, []

    def killed(self, *arguments, **options):
        done = rid(self, *arguments, **options)
        calls.append(done)
        if not options.get("dry") and arguments[1].startswith("data/") and done == REMOVED:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Traces, "rid", killed)
        erasure.erase(her, None, None, "Ada", "consent withdrawn", plan=False)
    assert any(cine in path.name for cine in cines for path in (folder / "data").rglob("*"))
    invoke("erase", her, *WHO)
    assert not {Path(path).name for path in still_there(folder, cines)}


def test_nothing_is_erased_without_a_person_and_a_reason(checkout):
    for words in (["P00"], ["P00", "--by", "Ada"], ["P00", "--by", " ", "--reason", "x"], []):
        with pytest.raises(InputError, match="needs"):
            invoke("erase", *words)


def test_the_store_of_arrivals_loses_her_and_takes_her_no_more(tmp_path, monkeypatch):
    for name in ("FETALFLOW_PSEUDONYM_KEY", "FETALFLOW_PSEUDONYM_KEY_FILE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for module in (erasure, stores):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    inbox, folder = tmp_path / "inbox", tmp_path / "workspaces" / "night"
    prepare_workspace(folder, TASK, str(inbox), None, [])
    store = folder / "arrivals" / TASK
    rows = [f"{patient}.avi,{patient},north,U7,A,,,head" for patient in ("P1", "P2")]
    cines = {f"{patient}.avi": patient.encode() for patient in ("P1", "P2")}
    deliver(inbox, "first", rows, cines)
    taken(inbox, store)
    (hers,) = [path for path in (store / "drop").rglob("*.avi") if path.read_bytes() == b"P2"]
    for left in (f"data/{TASK}/frames/{hers.stem}.npy", f"data/{TASK}/sequences/{hers.stem[:12]}-000000.npy"):
        (folder / left).parent.mkdir(parents=True)
        (folder / left).touch()
    node = Receipts(folder / "node" / "node.db", "")  # it runs
    empty = dict.fromkeys(("digest", "kind", "file", "task", "inbox", "device", "label", "assumed"), "")
    for number, (patient, site) in enumerate((("P1", "north"), ("P2", "north"), ("P2", "south"))):
        facts = {"study": f"1.{number}", "object": f"1.{number}.1", "patient": patient, "site": site}
        node.add(Receipt(state=HELD, received=0, **facts, **empty), "SCANNER", 0, {f"1.{number}": b"her name"})
    assert "1 objects of the node" in invoke("erase", "P2", "--plan") and len([*node.all()]) == 3
    text = invoke("erase", "P2", *WHO)
    assert "P2: 1 rows, 1 files" in text and "1 objects of the node" in text, text
    assert sorted((each.patient, each.site) for each in node.all()) == [("P1", "north"), ("P2", "south")]
    assert set(node.sealed(["1.0", "1.1", "1.2"])) == {"1.0", "1.2"}  # the other P2 is another woman
    node.close()
    assert not [path for path in folder.rglob("*") if hers.stem[:12] in path.name] and len(rows_of(store)) == 1
    token = next((tmp_path / "workspaces" / "erasures").glob("*.txt")).name[:15]
    assert set(read_withdrawn(store)["patient"]) == {"P2", token}
    deliver(inbox, "second", [*rows, "P1.avi,P1,north,U7,B,,,head"], cines)
    taken(inbox, store)
    assert set(rows_of(store)["patient"]) == {"P1"} and not hers.exists()
    # One whom no store has: only the workspace of a drop knows her.
    table = tmp_path / "workspaces" / "drop" / "data" / TASK / "manifest.parquet"
    table.parent.mkdir(parents=True)
    shutil.copy(folder / "params.yaml", tmp_path / "workspaces" / "drop")
    known = {"patient": ["P9", "P8", "P8"], "site": ["North", "North", "South"], "source": [OTHER, "", ""]}
    pd.DataFrame(known).to_parquet(table)
    with pytest.raises(InputError, match="called P8: at the sites North, South. Say of which site"):
        invoke("erase", "P8", *WHO)
    invoke("erase", "P9", *WHO)
    rows = [f"{site}.avi,P9,{site},U7,A,,,head" for site in ("north", "south")]
    deliver(inbox, "third", rows, {f"{site}.avi": site.encode() for site in ("north", "south")})
    taken(inbox, store)
    assert set(rows_of(store)[["patient", "site"]].itertuples(index=False, name=None)) == {
        ("P1", "north"),
        ("P9", "south"),
    }


def test_a_woman_whom_only_the_node_has_is_erased_by_her_identifier(tmp_path, monkeypatch):
    key = Key(bytes(range(64)))
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", key.secret.hex())
    folder = tmp_path / "workspaces" / "night"
    prepare_workspace(folder, TASK, str(tmp_path), None, [])
    node = Receipts(folder / "node" / "node.db", key.name)
    facts = {field: "" for field in COLUMNS} | {"study": "1", "object": "2", "state": HELD, "received": 0}
    node.add(Receipt(**facts | {"patient": key.pseudonym("patient", "4711")}), "SCANNER", 0, {"1": b"sealed"})
    node.close()
    removed = erase_from_nodes([folder], {"4711"}, (), None, key, plan=True)
    assert removed == {folder: Removed(1, 1, 0)} == erase_from_nodes([folder], {"4711"}, (), None, key, plan=False)
    assert erase_from_nodes([folder, tmp_path], {"4711"}, (), None, key, plan=True) == {folder: Removed()}
    hers = key.pseudonym("patient", "4711")
    assert erasure._nameless("4711", key) == hers == erasure._nameless(hers, key), "the certificate has no identifier"


SITES = frozenset({near("north"), near("south")})
ODD = 'Müller "Ä" O\'Brien'  # a pseudonym that JSON, YAML, HTML and a URL write in other ways
HERS = Traces(frozenset({"P1", "South/P01", ODD}), SITES, frozenset({SOURCE}), "erased-1")


@pytest.mark.parametrize(
    ("name", "text", "done"),
    [
        ("data/movement/sequences/abababababab-000000.npy", "", REMOVED),
        ("data/movement/frames/" + SOURCE + ".json", "{}", REMOVED),
        ("data/movement/sequences/cdcdcdcdcdcd-000000.npy", "", KEPT),
        ("predictions.csv", "sequence,patient,site\nabababababab-0,P9,north\ncdcd-0,P2,north\n", REWRITTEN),
        ("predictions.csv", "patient,site\nP1,North\nP2,north\n", REWRITTEN),
        ("predictions.csv", "patient,site\nP1,east\nP10,north\n", KEPT),
        ("predictions.csv", "patient,site\nP01,South\nx,north\n", REWRITTEN),
        ("decisions.csv", "video,who\nvideos/ab/" + SOURCE + ".avi,Ada\n", REWRITTEN),
        ("data/patients.csv", "patient,site,fold,part,sequences\nP1,north,0,train,2\n", REWRITTEN),
        ("notes.json", '{"rows": ["sequence abababababab-000010"]}', REMOVED),
        ("notes.json", '{"patient": "South/P01"}', REMOVED),
        ("notes.json", '{"P1": 4, "patient": "South/P012"}', KEPT),
        ("notes.json", json.dumps({"patient": ODD}), REMOVED),
        ("notes.yaml", yaml.safe_dump({"patient": ODD}), REMOVED),
        ("page.html", f"<td>{escape(ODD)}</td>", REMOVED),
        ("page.html", f"<a href='/cines?patient={quote(ODD)}'>", REMOVED),
        ("notes.txt", unicodedata.normalize("NFD", ODD), REMOVED),
        ("notes.txt", f"{ODD}b", KEPT),
        ("explain/overview.png", "pixels", REMOVED),
        ("figures/accuracy.png", "pixels", KEPT),
        ("report.html", "<p>pictures</p>", REMOVED),
    ],
)
def test_what_holds_her_is_found_in_each_kind_of_file(tmp_path, name, text, done):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert HERS.rid(path, name, shown=True, dry=True) == done and path.read_text() == text
    assert HERS.rid(path, name, shown=True) == done and path.exists() == (done != REMOVED)
    if done == REWRITTEN:
        assert HERS.rid(path, name, shown=True) == KEPT, "a second call has nothing to do"
    if name == "data/patients.csv":
        assert path.read_text().splitlines()[1] == "erased-1,,0,train,2"


def test_an_object_of_a_cache_is_hers_by_its_content_or_by_the_folder_that_names_it():
    packed, table = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("abababababab-000000.npy", b"x")
    pd.DataFrame({"patient": ["P1"], "site": ["north"]}).to_parquet(table)
    listing = [{"md5": "seq", "relpath": "abababababab-000000.npy"}, {"md5": "else", "relpath": "cdcd.npy"}]
    pictures = [{"md5": "json", "relpath": "explain.json"}, {"md5": "png", "relpath": "overview.png"}]
    found = {"packed": packed.getvalue(), "table": table.getvalue(), "seq": b"\x93NUMPY\0", "else": b"\x93NUMPY\0"}
    found |= {"a.dir": json.dumps(listing).encode(), "b.dir": json.dumps(pictures).encode(), "bad.dir": b"{"}
    found |= {"json": b'["abababababab-000000"]', "png": b"\x89PNG\0", "rest": b"patient,site\nP2,north\n"}
    hers, read = objects_of(lambda: ((oid, lambda data=data: data) for oid, data in found.items()), HERS)
    assert hers == {"packed", "table", "seq", "a.dir", "b.dir", "json", "png"} and read == len(found)
