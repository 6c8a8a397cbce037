"""An inbox in an S3 store, spoken to over the network, and zips as deliveries: what comes in is what a folder gives."""

import os
import shutil
import socket
import threading
import time
import traceback
import zipfile
from pathlib import Path

import pytest
from inbox_folder import deliver, digest, rows_of, taken
from processes import OURS, free_port
from servers import s3_client, s3_store

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.inbox import LISTINGS, S3_LIMITS, NotFetched, deliveries, opened
from fetalflow.hospital.arrival.intake import Prepare, arrive
from fetalflow.hospital.arrival.journal import read_journal
from fetalflow.settings.params import Retrain, Split

URL = "s3://drops/in"
PAGE = 50  # keys that the store gives at once; elsewhere 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_store(tmp_path_factory.mktemp("store"), page=PAGE) as found:
        yield found


@pytest.fixture
def bucket(server, monkeypatch):
    """An empty bucket `drops`; the process's environment names the store as a worker's does."""
    from s3fs import S3FileSystem

    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    for name, value in server.access.items():
        monkeypatch.setenv(name, value)
    client = s3_client(server)
    client.create_bucket(Bucket="drops")
    yield client
    S3FileSystem.clear_instance_cache()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="drops"):
        client.delete_objects(
            Bucket="drops",
            Delete={"Objects": [{"Key": found["Key"]} for found in page.get("Contents", [])] or [{"Key": "x"}]},
        )
    client.delete_bucket(Bucket="drops")


def upload(bucket, folder: Path, prefix: str = "in", without: tuple[str, ...] = ()) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in without:
            bucket.put_object(
                Bucket="drops", Key=f"{prefix}/{path.relative_to(folder).as_posix()}", Body=path.read_bytes()
            )


def look(store: Path, url: str = URL, **others) -> dict[str, tuple[str, str]]:
    settings = Retrain(settle=others.pop("settle", 900))
    return {a.name: (a.state, a.said) for a in arrive(url, store, settings, Split(), **others)}


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "COMPLETE":
                archive.write(path, path.relative_to(folder))
    return target


def test_a_bucket_gives_what_a_folder_gives_and_once(bucket, inbox, tmp_path):
    taken(inbox, tmp_path / "local")
    upload(bucket, inbox)
    assert taken(URL, tmp_path / "store") == {"monday": "taken", "tuesday": "taken"}
    assert digest(tmp_path / "store") == digest(tmp_path / "local")
    assert taken(URL + "/", tmp_path / "store") == {"monday": "known", "tuesday": "known"}
    # In the bucket's root, beside other things.
    upload(bucket, inbox / "monday", "wednesday")
    assert taken("s3://drops", tmp_path / "root")["wednesday"] == "taken"


def test_a_half_uploaded_drop_waits(bucket, inbox, tmp_path):
    store, now = tmp_path / "store", 0.0
    upload(bucket, inbox, without=("COMPLETE", "8.AVI"))
    bucket.put_object(Bucket="drops", Key="in/tuesday/COMPLETE", Body=b"")
    assert look(store, clock=lambda: now) == {
        "monday": ("waiting", "no COMPLETE in it; it settles in 900 s"),
        "tuesday": ("waiting", "1 files that its rows name are not there"),
    }
    now = 600.0
    bucket.put_object(Bucket="drops", Key="in/monday/cines/3.avi", Body=b"longer than it was")
    bucket.put_object(Bucket="drops", Key="in/tuesday/8.AVI", Body=b"cine 8" * 1000)
    assert [state for state, _ in look(store, clock=lambda: now).values()] == ["waiting", "taken"]
    now = 1200.0
    assert look(store, clock=lambda: now)["monday"] == ("waiting", "no COMPLETE in it; it settles in 300 s")
    now = 1500.0
    assert look(store, clock=lambda: now)["monday"][0] == "taken"


def test_a_store_that_is_lost_while_a_delivery_is_read_names_nobody(bucket, inbox, tmp_path, monkeypatch):
    """Hospitals name folders after patients, and a library's error quotes the address of its request."""
    upload(bucket, inbox / "monday", "in/MUSTER^ANNA")
    settings = Retrain(inbox="s3://key:secret@drops/in")
    monkeypatch.setitem(S3_LIMITS, "config_kwargs", {"connect_timeout": 1, "retries": {"max_attempts": 0}})
    from s3fs import S3FileSystem

    def lost(folder: Path, scratch: Path) -> Path:
        def fail(self, *names, **others):
            raise OSError(f"Could not connect to http://127.0.0.1/drops?prefix={names}")

        monkeypatch.setattr(S3FileSystem, "find", fail)
        return folder

    for prepare in (Prepare(lost, lambda name: "D1"), Prepare(lost, lambda name: "D1")):
        with pytest.raises(InputError, match="gives no answer .OSError.") as refused:
            arrive(URL, tmp_path / "store", settings, Split(), prepare)
        shown = "".join(traceback.format_exception(refused.value))
        assert "MUSTER" not in shown, shown
    kept = "".join(path.read_text(errors="replace") for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert "MUSTER" not in kept


def test_objects_that_change_are_noticed(bucket, inbox, tmp_path):
    """By their ETag: the size is the same, and S3 tells times by the second."""
    store = tmp_path / "store"
    upload(bucket, inbox / "monday", "in/monday")
    key = {"Bucket": "drops", "Key": "in/monday/cines/1.avi"}

    def meanwhile(folder: Path, scratch: Path) -> Path:
        bucket.put_object(**key, Body=b"cine X" * 1000)
        return folder

    assert look(store, prepare=Prepare(meanwhile))["monday"] == ("waiting", "it changed while it was read")
    assert look(store)["monday"][0] == "taken"
    bucket.put_object(**key, Body=b"cine Y" * 1000)
    assert look(store)["monday"][0] == "taken", "its rows name other bytes now: another drop"
    used = {(store / "drop" / video).read_bytes()[:6] for video in rows_of(store)["video"]}
    assert {b"cine X", b"cine Y"} < used and b"cine 1" not in used


def test_what_cannot_be_fetched_is_tried_again_and_keeps_nothing_else_out(bucket, inbox, tmp_path):
    upload(bucket, inbox)

    def meanwhile(folder: Path, scratch: Path) -> Path:
        bucket.delete_object(Bucket="drops", Key="in/tuesday/7.AVI")
        return folder

    found = look(tmp_path / "store", prepare=Prepare(meanwhile))
    assert found["monday"][0] == "taken" and found["tuesday"][0] == "waiting"
    assert "could not be fetched" in found["tuesday"][1] and "7.AVI" not in found["tuesday"][1]
    bucket.put_object(Bucket="drops", Key="in/tuesday/7.AVI", Body=b"cine 7" * 1000)
    assert look(tmp_path / "store")["tuesday"][0] == "taken"


@pytest.mark.parametrize("disappears", [1, 2])
def test_a_key_that_is_removed_while_it_is_listed_fails_no_look(bucket, inbox, tmp_path, monkeypatch, disappears):
    from s3fs import S3FileSystem

    upload(bucket, inbox)
    real, left = S3FileSystem.find, disappears

    def find(self, place, **others):
        nonlocal left
        left -= 1
        if left >= 0:
            raise FileNotFoundError(f"{place}/monday/cines/1.part")
        return real(self, place, **others)

    monkeypatch.setattr(S3FileSystem, "find", find)
    assert [each.name for each in deliveries(URL, "COMPLETE")] == ["monday", "tuesday"]
    left = LISTINGS  # in every listing: then the store is broken
    with pytest.raises(InputError, match="gives no answer .FileNotFoundError"):
        deliveries(URL, "COMPLETE")


def test_looks_survive_a_sender_that_renames_keys(bucket, inbox, tmp_path):
    """A store renames a key by a copy and a removal."""
    upload(bucket, inbox)
    stop, names = threading.Event(), ["in/monday/cines/3.avi", "in/monday/cines/3.part"]

    def send() -> None:
        while not stop.is_set():
            here, there = names
            bucket.copy_object(Bucket="drops", CopySource={"Bucket": "drops", "Key": here}, Key=there)
            bucket.delete_object(Bucket="drops", Key=here)
            names.reverse()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        found = [look(tmp_path / "store") for _ in range(3)]
    finally:
        stop.set()
        sender.join()
    assert found[-1]["tuesday"][0] == "known"
    if names[0].endswith(".part"):
        bucket.copy_object(Bucket="drops", CopySource={"Bucket": "drops", "Key": names[0]}, Key=names[1])
        bucket.delete_object(Bucket="drops", Key=names[0])
    assert look(tmp_path / "store")["monday"][0] in ("taken", "again", "known")
    assert {line["state"] for line in read_journal(tmp_path / "store")} <= {"taken", "again"}
    assert len(rows_of(tmp_path / "store")) == 11


def test_keys_that_no_folder_can_hold_are_refused(bucket, inbox, tmp_path):
    upload(bucket, inbox)
    table = (inbox / "monday" / "annotations.csv").read_bytes()
    evil = {
        "up": "in/up/../../escaped.avi",
        "..": "in/../escaped.avi",
        "double": "in/double//cines/0.avi",
        "//": "in//cines/0.avi",
        "long": f"in/long/{'x' * 256}.avi",
        "clash": "in/clash/annotations.csv/0.avi",
    }
    for name, key in evil.items():
        bucket.put_object(Bucket="drops", Key=key, Body=b"escaped")
        for other in ("annotations.csv", "COMPLETE"):
            bucket.put_object(Bucket="drops", Key=f"in/{name}/{other}", Body=table)
    for marker in ("in/", "in/monday/", "in/monday/cines/", "in/.hidden/a.avi"):  # a page's empty folders
        bucket.put_object(Bucket="drops", Key=marker, Body=b"")
    found = look(tmp_path / "store")
    assert {name: state for name, (state, _) in found.items()} == dict.fromkeys(evil, "refused") | {
        "monday": "taken",
        "tuesday": "taken",
    }
    assert not list(tmp_path.rglob("*escaped*")) and len(rows_of(tmp_path / "store")) == 11
    assert not any("escaped" in said for _, said in found.values())


def test_more_keys_than_one_page_holds(bucket):
    for i in range(2 * PAGE + 5):
        bucket.put_object(Bucket="drops", Key=f"in/a/{i:04d}.avi", Body=b"x")
    for key in ("in/a/zz", "in/b/1.avi"):
        bucket.put_object(Bucket="drops", Key=key, Body=b"")
    assert bucket.list_objects_v2(Bucket="drops", Prefix="in/")["IsTruncated"]
    a, b = deliveries(URL, "zz")
    assert (len(a.files), a.marked, list(b.files), b.marked) == (2 * PAGE + 5, True, ["1.avi"], False)


def test_a_zip_is_a_delivery_like_its_folder(bucket, inbox, tmp_path):
    together = tmp_path / "folders"
    taken(inbox, together)
    zips = tmp_path / "zips"
    zips.mkdir()
    for name in ("monday", "tuesday"):
        zipped(inbox / name, zips / f"{name}.zip")
    (zips / "tuesday.zip.COMPLETE").touch()
    (zips / "notes.txt").write_text("no delivery")
    upload(bucket, zips)
    for number, url in enumerate((str(zips), URL)):
        store = tmp_path / f"{number}"
        assert look(store, url, clock=lambda: 0) == {
            "monday.zip": ("waiting", "no COMPLETE beside it; it settles in 900 s"),
            "tuesday.zip": ("taken", ""),
        }
        found = look(store, url, clock=lambda: 900)
        assert (found["monday.zip"][0], found["tuesday.zip"][0]) == ("taken", "known")
        columns = ["video", "patient", "label", "drop"]
        assert rows_of(store)[columns].equals(rows_of(together)[columns])
    shutil.copytree(inbox / "monday", zips / "monday")
    assert look(tmp_path / "0", str(zips))["monday"][0] == "again"


def test_zips_that_are_no_drop_are_refused(tmp_path):
    folder = tmp_path / "inbox"
    deliver(folder, "fine", ["1.avi,P1,n,U7,A,,,head"], {"1.avi": b"x"})
    with zipfile.ZipFile(folder / "evil.zip", "w") as archive:
        archive.writestr("annotations.csv", (folder / "fine" / "annotations.csv").read_text())
        archive.writestr("../escaped.avi", b"x")
    whole = zipped(folder / "fine", tmp_path / "whole.zip").read_bytes()
    (folder / "short.zip").write_bytes(whole[: len(whole) // 2])
    (folder / "link.zip").symlink_to(tmp_path / "whole.zip")
    for name in ("evil", "short", "link"):
        (folder / f"{name}.zip.COMPLETE").touch()
    found = look(tmp_path / "store", str(folder))
    assert {name: state for name, (state, _) in found.items()} == {
        "evil.zip": "refused", "short.zip": "refused", "link.zip": "refused", "fine": "taken",
    }  # fmt: skip
    assert "leaves the zip" in found["evil.zip"][1] and "copy it again" in found["short.zip"][1]
    assert not list(tmp_path.rglob("escaped.avi"))
    (folder / "short.zip").write_bytes(whole)
    assert look(tmp_path / "store", str(folder))["short.zip"][0] == "again"


def test_a_store_out_of_reach_is_said_in_bounded_time(bucket, tmp_path, monkeypatch):
    from s3fs import S3FileSystem

    with pytest.raises(InputError, match="s3://nowhere/in gives no answer .FileNotFoundError.*AWS_ENDPOINT_URL"):
        arrive("s3://nowhere/in", tmp_path / "store", Retrain(), Split())
    bucket.put_object(Bucket="drops", Key="in/a/1.avi", Body=b"x")
    (delivery,) = deliveries(URL, "COMPLETE")
    assert 5 * (S3_LIMITS["config_kwargs"]["connect_timeout"] + S3_LIMITS["config_kwargs"]["read_timeout"]) <= 90
    monkeypatch.setitem(S3_LIMITS["config_kwargs"], "read_timeout", 0.5)

    def no_answer_from(port: int) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        S3FileSystem.clear_instance_cache()
        start = time.monotonic()
        with pytest.raises(InputError, match="gives no answer .*Check .*the network") as refusal:
            arrive(URL, tmp_path / "store", Retrain(), Split())
        assert time.monotonic() - start < 20 and "secret" not in str(refusal.value)

    with socket.socket() as silent:  # takes the connection and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        no_answer_from(silent.getsockname()[1])
    no_answer_from(free_port())
    with pytest.raises(NotFetched, match="could not be fetched"), opened(URL, delivery, tmp_path):
        raise AssertionError("it was opened")
