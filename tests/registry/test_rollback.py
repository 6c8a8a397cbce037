"""The former champion comes back by one command, and answers with the same bytes."""

import os
import shutil
import sqlite3

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from finished_run import FRAMES, LABELS, SIZE, TASK, export, make_finished_run
from typer.testing import CliRunner

import stages.register
import stages.report
from fetalflow.annotation.corrections import correct
from fetalflow.annotation.journal import JOURNAL
from fetalflow.annotation.journal import Journal as Annotations
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.withdrawal import add_withdrawn
from fetalflow.models.building import build
from fetalflow.models.weights import read, save
from fetalflow.registry.ledger import record as ledger
from fetalflow.registry.ledger.decisions import accept, put_back, roll_back
from fetalflow.registry.ledger.record import history, record_move, verify
from fetalflow.registry.tracking import download_package, registry
from fetalflow.registry.version_page import ANSWERS
from fetalflow.settings.params import load_settings
from flows.cli.app import app
from flows.nights.judged import show_judged

MODEL = "fetal-movement"  # the name in params.yaml
VARIANT = "cnn"


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """A registry with three finished models, by the register stage; a cine."""
    folder = make_finished_run(tmp_path_factory.mktemp("run"), (VARIANT,), explain=False)
    package = folder / "models" / TASK / VARIANT
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        stages.report.main(TASK)
        stages.register.main(TASK)
        for seed in (11, 12):
            _, config = read(package)
            torch.manual_seed(seed)
            network = build(VARIANT, FRAMES, SIZE, len(LABELS))
            facts = {k: v for k, v in config.items() if k not in ("weights", "familiarity", "versions")}
            save(folder / "other", network, facts)
            shutil.rmtree(package)
            shutil.move(folder / "other", package)
            export(folder, VARIANT)
            stages.register.main(TASK)
    write_cine(folder / "cine.avi")
    return folder


def write_cine(path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "gray"
        picture = np.random.default_rng(0).integers(30, 220, (96, 96), dtype=np.uint8)
        for i in range(3 * FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, i, axis=1), format="gray")))
        container.mux(stream.encode())


@pytest.fixture
def here(versions, tmp_path, monkeypatch):
    """A copy of the registry's database for each test."""
    monkeypatch.chdir(versions)
    path = shutil.copy(versions / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")


def predicted(recorded: str = "cine.avi", model: str = MODEL) -> bytes:
    done = CliRunner().invoke(app, ["predict", recorded, "--model", f"models:/{model}@champion", "--engine", "torch"])
    assert done.exit_code == 0, done.output
    return done.stdout_bytes


def champion() -> str:
    with registry() as store:
        return store.aliases(MODEL)["champion"]


def test_the_stage_moved_the_challenger_by_the_ledger(here):
    done = [line for line in history() if line["step"] == "done"]
    assert [(line["alias"], line["from"], line["to"]) for line in done] == [
        ("challenger", None, "1"),
        ("challenger", "1", "2"),
        ("challenger", "2", "3"),
    ]
    assert all(len(line["evidence"]) == 64 for line in done) and len({line["evidence"] for line in done}) == 3
    assert verify().wrong == []


def test_the_stage_says_the_hash_of_its_line_once(here, capsys):
    record_move(MODEL, "challenger", "1", None, "by hand, on record")
    for said in (True, False):
        stages.register.main(TASK)
        assert (f"hash {history()[-1]['sha256']}" in capsys.readouterr().out) is said
    assert history()[-1]["to"] == "3" and len(history()) == 10


def test_what_people_said_of_its_answers_is_on_the_page_of_a_version(here, tmp_path):
    block = load_settings().block(TASK)
    assert show_judged(tmp_path, TASK, block) == ""  # nobody judged an answer
    mark = {"kind": "span", "id": "0" * 32, "label": "head"}
    said = {"origin": "service", "first_frame": 0, "last_frame": 0, "answer": "head", "marks": [mark], "why": "seen"}
    for number, (version, right) in enumerate([("2", True), ("2", True), ("2", False), ("99", True)]):
        said |= {"model": f"{MODEL} {version}", "right": right}
        correct(Annotations(tmp_path / JOURNAL), TASK, f"{number:064x}", "ann", said, "")
    assert show_judged(tmp_path, TASK, block) == ""
    with registry() as store:
        tags = [store.client.get_model_version(MODEL, version).tags.get(ANSWERS) for version in ("1", "2")]
    assert tags == [None, "2 right, 1 wrong, 3 patients"] and verify().wrong == []


def test_the_former_champion_answers_with_the_same_bytes(here):
    record_move(MODEL, "champion", "1", None, "first")
    before, files = predicted(), fetched()
    record_move(MODEL, "champion", "2", None, "better")
    other = predicted()
    assert other != before
    done = CliRunner().invoke(app, ["rollback", "--task", TASK, "--reason", "it got worse at site B", "--by", "ann"])
    assert done.exit_code == 0 and "is version 1 again, it was 2" in done.stdout
    assert champion() == "1" and predicted() == before and fetched() == files
    line = history()[-1]
    assert (line["kind"], line["from"], line["to"], line["who"]) == ("rollback", "2", "1", "ann")
    assert line["reason"] == "it got worse at site B" and line["sha256"] in done.stdout
    assert verify().wrong == []


def fetched() -> dict[str, bytes]:
    folder = download_package(f"models:/{MODEL}@champion")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_of_single_frames_answers_an_image_with_the_same_bytes(here, tmp_path):
    """As the planes are: one frame in, a standard plane out."""
    import mlflow

    from fetalflow.registry.logged_model import log_model

    picture = tmp_path / "plane.png"
    cv2.imwrite(str(picture), np.random.default_rng(1).integers(30, 220, (96, 128), dtype=np.uint8))
    extract = read(download_package(f"models:/{MODEL}/1"))[1]["extract"] | {"frames": 1, "stride": 1}
    config = {"task": "planes", "variant": "net", "network": VARIANT, "labels": LABELS, "frames": 1, "size": SIZE}
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    for seed in (1, 2):
        torch.manual_seed(seed)
        save(tmp_path / "net", build(VARIANT, 1, SIZE, len(LABELS)), config | {"options": {}, "extract": extract})
        with mlflow.start_run():
            logged = log_model(mlflow, tmp_path / "net", None, "a card")
            mlflow.register_model(f"models:/{logged.model_id}", "plane_net")
    record_move("plane_net", "champion", "1", None, "first")
    before = predicted(str(picture), "plane_net")
    record_move("plane_net", "champion", "2", None, "better")
    assert predicted(str(picture), "plane_net") != before
    roll_back("plane_net")
    assert predicted(str(picture), "plane_net") == before


def test_rolling_back_goes_back_in_time_and_not_in_circles(here):
    for version in ("1", "2", "3"):
        record_move(MODEL, "champion", version, None, "better")
    assert (roll_back(MODEL)["to"], roll_back(MODEL)["to"]) == ("2", "1")
    with pytest.raises(InputError, match="no earlier champion to go back to: version 1 is the first"):
        roll_back(MODEL)
    assert champion() == "1"


def test_without_a_champion_there_is_none_to_go_back_to(here):
    with pytest.raises(InputError, match="the ledger has none"):
        roll_back(MODEL)
    with pytest.raises(InputError, match="no task 'nose'"):
        CliRunner().invoke(app, ["rollback", "--task", "nose"], catch_exceptions=False)


def test_a_rollback_can_be_taken_back(here):
    for version in ("1", "2", "3"):
        record_move(MODEL, "champion", version, None, "better")
    roll_back(MODEL)
    assert roll_back(MODEL, reason="it was the scanner", to="3")["to"] == "3" and champion() == "3"
    assert roll_back(MODEL)["to"] == "2"
    with pytest.raises(InputError, match="version 9 of fetal-movement was never champion; by the ledger .* 1, 3"):
        roll_back(MODEL, to="9")
    with pytest.raises(InputError, match="version 2 of fetal-movement was never champion"):
        roll_back(MODEL, to="2")


def test_a_champion_moved_by_hand_is_looked_at_first(here):
    record_move(MODEL, "champion", "1", None, "first")
    record_move(MODEL, "champion", "2", None, "better")
    with registry() as store:
        store.set_alias(MODEL, "champion", "3")
    with pytest.raises(InputError, match="moved by hand"):
        roll_back(MODEL)
    assert champion() == "3"
    put_back(MODEL, "champion", "nobody knows who did it")
    assert champion() == "2" and roll_back(MODEL)["to"] == "1"


def test_rolling_back_passes_over_a_version_that_nobody_decided_on(here):
    record_move(MODEL, "champion", "1", None, "first")
    with registry() as store:
        store.set_alias(MODEL, "champion", "2")
    record_move(MODEL, "champion", "3", None, "over the one that was put there by hand")
    assert roll_back(MODEL)["to"] == "1"


def test_rolling_back_comes_to_a_version_that_was_accepted(here):
    record_move(MODEL, "champion", "1", None, "first")
    with registry() as store:
        store.set_alias(MODEL, "champion", "2")
    accept(MODEL, "champion", "asked for by the clinic")
    record_move(MODEL, "champion", "3", None, "better")
    assert (roll_back(MODEL)["to"], roll_back(MODEL)["to"]) == ("2", "1")


def test_a_former_champion_that_was_deleted_cannot_come_back(here):
    for version in ("1", "2", "3"):
        record_move(MODEL, "champion", version, None, "better")
    with registry() as store:
        store.client.delete_model_version(MODEL, "2")
    message = "version 2 of fetal-movement, the earlier champion, was deleted .* Still there: 1;"
    with pytest.raises(InputError, match=message):
        roll_back(MODEL)
    assert champion() == "3" and verify().wrong == []
    done = CliRunner().invoke(app, ["rollback", "--task", TASK, "--to", "1"])
    assert done.exit_code == 0 and champion() == "1"


def test_after_a_crash_in_a_promotion_one_rollback_restores_the_former_champion(here, monkeypatch):
    record_move(MODEL, "champion", "1", None, "first")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ledger, "open_intents", raised)  # asked for after the alias was set
        patch.setattr(ledger, "chain_at_rest", without_waiting)
        record_move(MODEL, "champion", "2", None, "better")
    assert champion() == "2" and history()[-1]["step"] == "intent"
    monkeypatch.setattr(ledger, "PATIENCE_S", 0.0)
    assert roll_back(MODEL)["to"] == "1" and champion() == "1"
    assert [line["step"] for line in history()[-4:]] == ["intent", "settled", "intent", "done"]
    assert (verify().wrong, verify().notes) == ([], [])


def without_waiting(store, model, alias):
    return ledger.intact_chain(store), store.aliases(model).get(alias)


def raised(*words):
    raise KeyboardInterrupt


def test_the_verbs_of_the_ledger(here):
    record_move(MODEL, "champion", "1", "f" * 64, "first", "ann")
    said = CliRunner().invoke(app, ["ledger", "history", "--model", MODEL])
    assert f"{MODEL}@champion went from no version to version 1, by ann: first [evidence ffff" in said.stdout
    kept = CliRunner().invoke(app, ["ledger", "history", "--json"]).stdout.splitlines()
    assert len(kept) == 8
    good = CliRunner().invoke(app, ["ledger", "verify"])
    assert good.exit_code == 0 and "8 lines, 0 errors" in good.stdout
    with registry() as store:
        store.set_alias(MODEL, "champion", "2")
    bad = CliRunner().invoke(app, ["ledger", "verify"])
    assert bad.exit_code == 1 and f"WRONG  {MODEL}@champion was moved by hand" in bad.stdout
    to_do = "ledger accept fetal-movement champion --reason"
    assert to_do in bad.stdout and CliRunner().invoke(app, [*to_do.split()[:-1]]).exit_code == 2
    kept = CliRunner().invoke(app, [*to_do.split(), "the clinic asked for it", "--by", "bea"])
    assert kept.exit_code == 0 and "stays at version 2; the ledger said 1" in kept.stdout
    assert CliRunner().invoke(app, ["ledger", "verify"]).exit_code == 0
    with registry() as store:
        store.set_alias(MODEL, "champion", "3")
    undone = CliRunner().invoke(app, ["ledger", "put-back", MODEL, "champion", "--reason", "by mistake"])
    assert undone.exit_code == 0 and "is version 2 again, it was 3" in undone.stdout
    said = CliRunner().invoke(app, ["ledger", "history"]).stdout
    assert "from version 1 to version 2, accepted, by bea: the clinic asked for it" in said
    assert "went from version 3 to version 2 (put back)" in said


def test_a_restored_copy_of_the_embedded_store_answers_with_the_same_bytes(here, versions, tmp_path, monkeypatch):
    """docs/operator/operations.md: the database by SQLite's own backup, `mlartifacts` copied, both put back."""
    record_move(MODEL, "champion", "2", None, "first")
    head, before = verify().head, predicted()
    copies = (tmp_path / "mlflow.db", tmp_path / "backup.db")
    with sqlite3.connect(copies[0]) as running, sqlite3.connect(copies[1]) as backup:
        running.backup(backup)
    shutil.copytree(versions / "mlartifacts", tmp_path / "mlartifacts")
    shutil.rmtree(versions / "mlartifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copies[1]}")
    assert CliRunner().invoke(app, ["predict", "cine.avi", "--model", f"models:/{MODEL}@champion"]).exit_code
    shutil.copytree(tmp_path / "mlartifacts", versions / "mlartifacts")
    assert predicted() == before
    assert verify(head).wrong == [] and verify("0" * 64).wrong


def asked(verb: str, *words: str):
    """The model line of a verb, and its first answer."""
    done = CliRunner().invoke(app, [verb, "cine.avi", "--engine", "torch", *words])
    assert done.exit_code == 0, (done.output, done.exception)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Model")]
    return line, done.stdout


@pytest.mark.parametrize("verb", ["predict", "stream"])
def test_the_champion_answers_and_until_there_is_one_the_challenger_and_it_is_said(here, verb):
    prefix = f"Model     models:/{MODEL}"
    line, newest = asked(verb)
    assert line == f"{prefix}/3 (challenger; there is no champion yet), engine torch"
    record_move(MODEL, "champion", "1", None, "first")
    line, first = asked(verb)
    assert line == f"{prefix}/1 (champion), engine torch" and (verb == "stream" or first != newest)
    line, again = asked(verb, "--model", f"models:/{MODEL}@challenger")
    assert line == f"{prefix}/3 (challenger), engine torch" and (verb == "stream" or again == newest)
    assert asked(verb, "--model", f"models:/{MODEL}/2")[0] == f"{prefix}/2, engine torch"
    folder = str(download_package(f"models:/{MODEL}/1"))
    assert asked(verb, "--model", folder)[0] == f"Model     {folder}, engine torch"


def test_without_champion_and_challenger_nobody_answers(here, monkeypatch):
    with registry() as store:
        store.set_alias(MODEL, "challenger", None)
    with pytest.raises(InputError, match="no version of fetal-movement is champion or challenger. Run the pipeline"):
        CliRunner().invoke(app, ["predict", "cine.avi"], catch_exceptions=False)


def gone(package):
    shutil.rmtree(package)


def cut(package):
    (package / "model.safetensors").unlink()


def other_weights(package):
    """Weights and configuration of version 3: a whole package that loads, but not the one that was registered."""
    for name in ("model.safetensors", "config.json"):
        shutil.copy(download_package(f"models:/{MODEL}/3") / name, package / name)


def one_byte(package):
    file = package / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def other_format(package):
    (package / "exports" / "onnx" / "model.onnx").write_text("another network")


def other_card(package):
    (package / "README.md").write_text("a better card")


@pytest.mark.parametrize(
    "harm", [gone, cut, other_weights, one_byte, other_format, other_card], ids=lambda f: f.__name__
)
def test_a_version_whose_files_are_gone_or_changed_does_not_come_back(here, versions, tmp_path, harm):
    for version in ("1", "2", "3"):
        record_move(MODEL, "champion", version, None, "better")
    package = download_package(f"models:/{MODEL}/2")
    kept = tmp_path / "kept"
    shutil.copytree(package, kept)
    try:
        harm(package)
        before = len(history())
        with pytest.raises(InputError, match="(?s)version 2 of fetal-movement cannot be used: .*These can be used: 1;"):
            roll_back(MODEL)
        assert champion() == "3" and len(history()) == before, "no line was written"
        with registry() as store:
            store.set_alias(MODEL, "champion", "1")
        accept(MODEL, "champion", "test")
        with pytest.raises(InputError, match="no alias was moved: the files of version 2 .* were changed or swapped"):
            record_move(MODEL, "champion", "2", None, "test")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ledger, "package_error", lambda *words: None)
            record_move(MODEL, "champion", "2", None, "test")
        with registry() as store:
            store.set_alias(MODEL, "champion", "3")
        with pytest.raises(InputError, match="version 2 of fetal-movement cannot be used"):
            put_back(MODEL, "champion", "a move by hand")
    finally:
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(kept, package)
    put_back(MODEL, "champion", "its files are back")
    assert champion() == "2"


def test_a_version_that_saw_a_withdrawn_patient_does_not_come_back(here, versions, tmp_path, monkeypatch):
    split = pd.read_parquet(versions / "data" / TASK / "split.parquet")
    trained, tested = (split.loc[split["part"] == part, "patient"].iloc[0] for part in ("train", "test"))
    manifest = pd.read_parquet(versions / "data" / TASK / "manifest.parquet")
    site = manifest.loc[manifest["patient"] == trained, "site"].iloc[0]
    for version in ("1", "2"):
        record_move(MODEL, "champion", version, None, "better")
    monkeypatch.chdir(tmp_path)
    shutil.copy(versions / "params.yaml", tmp_path)
    store = tmp_path / "arrivals" / TASK
    store.mkdir(parents=True)
    for patient, pseudonyms in ((tested, None), ("another", [("a third site", trained)])):
        add_withdrawn(store, patient, "ann", "asked", pseudonyms)
    assert roll_back(MODEL)["to"] == "1", "nobody that it was trained on was withdrawn"
    record_move(MODEL, "champion", "2", None, "better")
    add_withdrawn(store, "permanent name", "ann", "asked", [(site, trained)])
    with pytest.raises(InputError, match="must not be used: 1 of the patients that it was trained on .* Train a new"):
        roll_back(MODEL)
    assert champion() == "2"
