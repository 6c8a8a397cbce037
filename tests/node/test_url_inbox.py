"""Deliveries of a node into an inbox behind a URL: whole or not there, once, and readable for an examination."""

import hashlib
from pathlib import Path

import fsspec
import pytest
from node_studies import a_node, as_bytes, studied
from servers import s3_client, s3_store

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import arrive
from fetalflow.node.delivering import deliver
from fetalflow.node.serving import one_round
from fetalflow.node.taking import take
from fetalflow.settings.params import Retrain, Split

URL = "memory://drops/north"
RULE = {"description": "CLINIC", "task": "movement", "labels": {"head": "(?i)head"}}
COUNT = 2


@pytest.fixture
def store():
    """An empty store in memory."""
    found = fsspec.filesystem("memory")
    yield found
    if found.exists("/drops"):
        found.rm("/drops", recursive=True)


def node_of(folder: Path, inbox: str = URL):
    return a_node(folder, rules=({**RULE, "inbox": inbox},))


def take_all(node) -> None:
    for number in range(1, COUNT + 1):
        take(node, as_bytes(studied(number)), "SCANNER")


def state(folder: Path, url: str = URL) -> list[tuple[str, int]]:
    """What a look into the inbox takes; without a key it is a drop like any other."""
    return [(each.state, each.rows) for each in arrive(url, folder / "store", Retrain(), Split())]


def content(store, place: str = "/drops/north") -> dict[str, str]:
    return {path: hashlib.sha256(store.cat(path)).hexdigest() for path in sorted(store.find(place))}


def test_a_study_is_taken_once_and_can_be_examined(store, tmp_path):
    examined = []

    def examine(files, out):
        examined.append(sorted(path.read_bytes()[128:132] for path in files))

    with node_of(tmp_path) as node:
        take_all(node)
        one_round(node, print, examine=examine)
        first = content(store)
        one_round(node, print, examine=examine)
        assert not list(node.folder.glob(".[de]*ing-*")), "nothing of a delivery stays in the node"
    assert content(store) == first and examined == [[b"DICM"] * COUNT]
    assert [name for name in first if name.endswith("/COMPLETE")]
    assert state(tmp_path) == [("taken", COUNT)] and state(tmp_path) == [("known", COUNT)]


@pytest.mark.parametrize("files", [0, 2, 4, 5])
def test_half_of_a_delivery_is_not_taken_and_the_next_round_writes_it_again(store, tmp_path, monkeypatch, files):
    """The connection breaks after so many of 6 files, for longer than a delivery without a marker needs to settle. With
    5 only the marker is missing, so what settled is the whole study."""
    real, left = type(store).put_file, [files]

    def put_file(self, *of, **how):
        left[0] -= 1
        if left[0] < 0:
            raise PermissionError("no connection to /drops/north of MUSTERFRAU")
        return real(self, *of, **how)

    monkeypatch.setattr(type(store), "put_file", put_file)
    with node_of(tmp_path) as node:
        take_all(node)
        with pytest.raises(OSError, match="does not take or give files .PermissionError") as failed:
            deliver(node)
        assert "MUSTERFRAU" not in str(failed.value)
        clock = iter(range(0, 10**6, 10_000))
        for _ in range(3 if files else 0):
            found = arrive(URL, tmp_path / "store", Retrain(), Split(), clock=lambda: next(clock))
            states = {each.state for each in found}
            assert states <= {"waiting"} or (files == 5 and states <= {"taken", "known"}), found
        monkeypatch.undo()
        assert [name for name, _ in deliver(node)]
        assert not deliver(node)
    assert state(tmp_path / "other") == [("taken", COUNT)]
    assert sum(rows for _, rows in state(tmp_path)) == COUNT, "nothing twice in the store that saw it half"


def test_a_bucket_gets_what_a_folder_gets(tmp_path, monkeypatch):
    from s3fs import S3FileSystem

    with s3_store(tmp_path / "s3") as server:
        for name, value in server.access.items():
            monkeypatch.setenv(name, value)
        client = s3_client(server)
        client.create_bucket(Bucket="drops")
        for name, inbox in (("bucket", "s3://drops/in"), ("folder", "")):
            place = tmp_path / name
            place.mkdir()
            with node_of(place, inbox) if inbox else a_node(place, rules=(RULE,)) as node:
                take_all(node)
                deliver(node)
        keys = [each["Key"] for each in client.list_objects_v2(Bucket="drops")["Contents"]]
        found = {key.removeprefix("in/"): client.get_object(Bucket="drops", Key=key)["Body"].read() for key in keys}
        S3FileSystem.clear_instance_cache()
    inbox = tmp_path / "folder" / "inbox"
    assert found == {p.relative_to(inbox).as_posix(): p.read_bytes() for p in inbox.rglob("*") if p.is_file()}


def test_an_inbox_that_no_package_opens_is_refused_at_the_start(tmp_path):
    with pytest.raises(InputError, match="ftps"), node_of(tmp_path, "ftps://drops/in"):
        pass
