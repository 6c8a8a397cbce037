"""The service over HTTP: what it answers and refuses; nothing is lost while versions and workers change."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import cv2
import httpx
import pytest
from cine_files import speckle, write_video

from fetalflow.inference.package import load
from fetalflow.inference.streaming.streamer import open_stream
from fetalflow.service.stream_log import FirstWindow
from fetalflow.service.workers import Worker

FRAMES, TOKEN = 4, "a-token-for-tests-0123456789"  # as in conftest.py


def versions(answer: httpx.Response) -> set[str]:
    return {model["version"] for model in answer.json()["models"]}


def wait(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_answer_is_the_packages_and_states_its_model(steady, packages, cine):
    answer = steady.predict(cine, patient="Erika", site="S1", device="D1")
    assert answer.status_code == 200
    told = answer.json()
    (found,) = told["result"]["answers"]
    expected = load(packages["1"]).predict(cine).as_dict()
    assert found.pop("file") == "file-1.avi"
    assert found["label"] == expected["label"]
    assert list(found["probabilities"].values()) == pytest.approx(list(expected["probabilities"].values()), abs=1e-5)
    assert told["for"] == "For research, not for diagnosis."
    (model,) = told["models"]
    assert (model["name"], model["version"], model["alias"]) == ("tiny", "1", "champion")
    (row,) = steady.rows
    assert (row.patient, row.site, row.device, row.role, row.version) == ("P-akirE", "S1", "D1", "champion", "1")
    assert row.label == expected["label"] and row.weights == model["sha256"] and row.latency_ms > 0
    assert "MUSTER" not in answer.text + str(row), "names of files may hold those of patients"


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        ("/v1/models", None),
        ("/metrics", "Bearer wrong"),
        ("/openapi.json", ""),
        ("/v1/predict", "Basic YTpi"),
        ("/v1/models", "Bearer"),
        ("/v1/models", "Token a-token-for-tests-0123456789"),
        ("/v1/models/", "Bearer a-token-for-tests-012345678"),
    ],
)
def test_nothing_is_answered_without_a_token(running, path, authorization):
    head = {} if authorization is None else {"Authorization": authorization}
    post = path == "/v1/predict"
    answer = (httpx.post if post else httpx.get)(running.address + path, headers=head, timeout=30, trust_env=False)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert running.client.get("/v1/models").status_code == 200, "a valid token of the same address is admitted"


def test_wrong_input_is_refused_with_a_reason_and_without_a_path(steady, cine, tmp_path):
    (broken := tmp_path / "broken.avi").write_bytes(cine.read_bytes()[:300])
    (text := tmp_path / "x.dcm").write_text("no picture")
    short = write_video(tmp_path / "short.avi", speckle(2))
    long = write_video(tmp_path / "long.avi", speckle(60, 64, 64))
    for file, words in ((broken, "cannot be used"), (text, "cannot be used"), (short, "4"), (long, "max_frames")):
        answer = steady.predict(file)
        assert answer.status_code == 422 and words in answer.json()["detail"], answer.text
        assert "/" not in answer.json()["detail"].replace("frames/s", ""), answer.text
        assert steady.rows[-1].refusal and steady.rows[-1].label is None
    assert steady.predict(cine, task="nix").status_code == 422
    assert steady.predict(cine, at_most_error="2").json()["detail"].startswith("at_most_error: ")
    assert steady.client.post("/v1/measure", files={"files": cine.read_bytes()}).status_code == 422
    assert steady.client.post("/v1/predict", data={"files": "/etc/passwd"}).status_code == 422
    assert steady.client.post("/v1/predict").status_code == 422
    assert len(steady.rows) == 4


def test_a_body_over_the_limit_is_refused_with_and_without_a_stated_length(running):
    large = b"-" * 310_000
    stated = running.client.post("/v1/predict", files={"files": large})
    assert stated.status_code == 413 and "0.3 MB" in stated.json()["detail"]
    head = {"Content-Type": "multipart/form-data; boundary=x"}
    begin = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    chunked = running.client.post("/v1/predict", content=iter([begin, large, b"\r\n--x--\r\n"]), headers=head)
    assert chunked.status_code == 413
    wait(lambda: running.desk.admitted == 0)


def test_a_client_that_is_still_sending_reads_why_its_body_was_refused(running):
    address, body = httpx.URL(running.address), b"-" * 310_000
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((address.host, address.port), 30) as connection:
        connection.sendall(head.encode() + body[:1000])
        assert connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 413", "it is answered at once"
        for begin in range(1000, len(body), 50_000):
            time.sleep(0.01)  # an ended connection would be reset meanwhile
            connection.sendall(body[begin : begin + 50_000])
        assert "0.3 MB" in connection.makefile(newline="").read()


def test_a_body_that_stalls_gives_its_place_back_and_all_bodies_together_have_a_limit(steady, monkeypatch):
    limits = replace(steady.desk.limits, stall_seconds=0.2)
    monkeypatch.setattr(steady.desk, "limits", limits)
    address, begin = httpx.URL(steady.address), b"--x\r\nContent-Disposition: form-data"
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 999\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with socket.create_connection((address.host, address.port), 30) as connection:
        connection.sendall(head.encode() + begin)
        refused = connection.makefile(newline="").read()
    assert refused.startswith("HTTP/1.1 408") and "No byte of it came" in refused
    assert refused.count("cache-control") == 1
    wait(lambda: steady.desk.admitted == 0 and steady.desk.arriving == 0)
    monkeypatch.setattr(steady.desk, "arriving", limits.max_bytes_together - 10)
    full = steady.client.post("/v1/predict", files={"files": b"-" * 100})
    assert full.status_code == 503 and "no room" in full.json()["detail"] and "retry-after" in full.headers


def test_a_connection_without_a_whole_request_is_ended(steady, monkeypatch):
    """It needs no token. A client that asks again and again keeps its connection."""
    monkeypatch.setattr("fetalflow.service.connections.HEAD_S", 0.3)
    address, used, one = httpx.URL(steady.address), set(), "GET /health HTTP/1.1\r\nHost: x\r\n"
    with ExitStack() as stack:
        busy = stack.enter_context(httpx.Client(base_url=steady.address, trust_env=False))
        begins = ("", one, f"{one}\r\nGET /")
        connections = [stack.enter_context(socket.create_connection((address.host, address.port), 10)) for _ in begins]
        for silent, begin in zip(connections, begins, strict=True):
            silent.sendall(begin.encode())
        for silent in connections:
            while silent.recv(4096):  # nothing more once it is ended
                pass
            used.add(busy.get("/health").extensions["network_stream"].get_extra_info("client_addr"))
    assert len(used) == 1


def test_a_full_disk_is_a_503(steady, cine, monkeypatch):
    def full(self, given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fetalflow.service.uploads.Uploads.take", full)
    answer = steady.predict(cine)
    assert answer.status_code == 503 and "retry-after" in answer.headers


def test_the_folder_of_the_service_may_be_removed_by_others(steady, cine):
    shutil.rmtree(steady.desk.scratch.folder)
    assert steady.predict(cine).status_code == 200


def test_more_requests_than_places_get_503_and_a_time(steady, cine):
    """The worker stands still, so the places are taken by requests that wait."""
    (worker,) = steady.desk.pool.pids
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as threads:
        try:
            waiting = [threads.submit(steady.predict, cine) for _ in range(4)]
            wait(lambda: steady.desk.is_full)
            full = steady.predict(cine)
        finally:
            os.kill(worker, signal.SIGCONT)
        assert full.status_code == 503 and int(full.headers["retry-after"]) >= 1
        assert 'fetalflow_serve_refused_total{status="503"}' in steady.client.get("/metrics").text
        assert [each.result().status_code for each in waiting] == [200] * 4


def test_no_request_is_lost_or_wrong_while_the_champion_changes_and_a_worker_dies(steady, packages, cine):
    right = {number: load(packages[number]).predict(cine).probabilities for number in ("1", "2")}
    answers, end = [], threading.Event()

    def ask() -> None:
        while not end.is_set():
            answers.append(steady.predict(cine))

    replaced = steady.desk.measures.workers_replaced._value.get()
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(ask) for _ in range(3)]
        wait(lambda: len(answers) > 2)
        os.kill(steady.desk.pool.pids[0], signal.SIGKILL)
        wait(lambda: steady.desk.measures.workers_replaced._value.get() > replaced)
        steady.aliases.now["champion"] = "2"
        steady.look_again()
        asked = len(answers)
        wait(lambda: len(answers) > asked + 5)
        end.set()
        [each.result() for each in running]
    assert {each.status_code for each in answers} == {200}
    assert set().union(*map(versions, answers)) == {"1", "2"} and versions(answers[-1]) == {"2"}
    for each in answers:
        (version,) = versions(each)
        (found,) = each.json()["result"]["answers"]
        assert found["probabilities"] == pytest.approx(right[version], abs=1e-5)
    assert len(steady.rows) == len(answers)


def test_a_job_that_kills_two_workers_ends_with_500_and_the_next_is_answered(steady, cine, monkeypatch):
    answer, killed = Worker.answer, []

    def deadly(self, job, seconds):
        killed.append(self.process.pid)
        self.process.kill()
        self.process.join()
        return answer(self, job, seconds)

    monkeypatch.setattr(Worker, "answer", deadly)
    failed = steady.predict(cine)
    monkeypatch.undo()
    assert failed.status_code == 500 and "request" in failed.json()["detail"] and len(set(killed)) == 2
    assert steady.predict(cine).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(steady, cine, monkeypatch):
    pool = steady.desk.pool
    monkeypatch.setattr(pool, "limits", replace(pool.limits, seconds=0.2))
    (worker,) = pool.pids
    os.kill(worker, signal.SIGSTOP)
    assert steady.predict(cine).status_code == 504
    monkeypatch.undo()
    assert steady.predict(cine).status_code == 200 and worker not in pool.pids


def test_a_challenger_in_shadow_is_only_logged(steady, packages, cine):
    steady.aliases.now["challenger"] = "2"
    steady.look_again()
    assert versions(steady.predict(cine)) == {"1"}
    wait(lambda: len(steady.rows) == 2)
    champion, shadow = sorted(steady.rows, key=lambda row: row.role)
    assert (champion.role, champion.version, shadow.role, shadow.version) == ("champion", "1", "shadow", "2")
    assert champion.input == shadow.input and shadow.probabilities == pytest.approx(
        load(packages["2"]).predict(cine).probabilities, abs=1e-5
    )
    assert [each["version"] for each in steady.client.get("/v1/models").json()["shadow"]] == ["2"]
    page = steady.client.get("/metrics").text
    assert 'fetalflow_serve_shadowed_total{outcome="answered"} 1.0' in page and 'role="shadow",task="movement"' in page


def test_the_earlier_version_goes_on_where_the_registry_or_a_new_version_fails(steady, cine):
    steady.aliases.broken = "no connection"
    steady.look_again()
    assert versions(steady.predict(cine)) == {"1"}
    assert "no connection" in steady.client.get("/v1/models").json()["problem"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fetalflow.service.desk.look", lambda followed, known: 1 / 0)
        steady.look_again()
    assert versions(steady.predict(cine)) == {"1"}
    assert "ZeroDivisionError" in steady.client.get("/v1/models").json()["problem"]
    steady.aliases.broken, steady.aliases.now["champion"] = "", "3"
    steady.look_again()
    assert versions(steady.predict(cine)) == {"1"}
    assert "model.safetensors" in steady.client.get("/v1/models").json()["problem"]
    assert steady.client.get("/ready").json() == {"status": "degraded"}
    steady.aliases.now["champion"] = "2"
    steady.look_again()
    assert versions(steady.predict(cine)) == {"2"} and steady.client.get("/ready").json() == {"status": "ready"}


def test_without_a_champion_nothing_is_answered(steady, cine):
    """A version that a person takes back must not answer any more."""
    steady.aliases.now.clear()
    steady.look_again()
    gone = steady.predict(cine)
    assert gone.status_code == 503 and "retry-after" in gone.headers
    assert steady.client.get("/ready").status_code == 503 and steady.client.get("/health").status_code == 200


def test_a_log_that_cannot_be_written_withholds_no_answer(steady, cine, monkeypatch):
    def full(row):
        raise OSError("No space left on device")

    monkeypatch.setattr(steady.desk.recorder, "record", full)
    assert steady.predict(cine).status_code == 200
    assert "No space left" in steady.client.get("/v1/models").json()["problem"]
    assert "fetalflow_serve_unrecorded_total 1.0" in steady.client.get("/metrics").text


def test_openapi_describes_the_uploads_and_the_refusals(running):
    paths = running.client.get("/openapi.json").json()["paths"]
    for verb in ("predict", "measure", "examine"):
        post = paths[f"/v1/{verb}"]["post"]
        assert list(post["requestBody"]["content"]) == ["multipart/form-data"]
        assert {"200", "401", "413", "422", "503", "504"} <= set(post["responses"])


# Streams


def stream(running, first: dict, frames) -> list[dict]:
    from websockets.sync.client import connect

    address = running.address.replace("http", "ws") + "/v1/stream"
    head = {"Authorization": f"Bearer {TOKEN}"}
    with connect(address, additional_headers=head, proxy=None, open_timeout=60) as socket:
        socket.send(json.dumps(first))
        heard = [json.loads(socket.recv(60))]
        for frame in frames:
            socket.send(frame)
            heard.append(json.loads(socket.recv(60)))
        return heard


@pytest.mark.parametrize("raw", [True, False])
def test_a_stream_answers_every_frame_as_the_library_does(steady, packages, raw):
    frames = speckle(2 * FRAMES, 120, 160)
    streamer = open_stream(packages["1"])
    streamer.begin(fps=25)
    expected = list(streamer.stream(frames))
    first = {"fps": 25} | ({"height": 120, "width": 160} if raw else {})
    sent = [frame.tobytes() if raw else cv2.imencode(".png", frame)[1].tobytes() for frame in frames]
    begun, *heard = stream(steady, first, sent)
    assert begun["for"] and begun["frames"] == FRAMES and begun["models"][0]["version"] == "1"
    assert [each["frame"] for each in heard] == list(range(2 * FRAMES))
    answers = [each["answer"] for each in heard]
    assert answers[: FRAMES - 1] == [None] * (FRAMES - 1)
    for answer, wanted in zip(answers[FRAMES - 1 :], expected, strict=True):
        assert answer["frame"] == wanted.frame
        assert answer["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-5)
    assert len(steady.rows) == 2, "windows that do not overlap"
    first, second = steady.rows
    assert not second.figures and first.figures.keys() >= {"mean_intensity", "sharpness", "speckle"}
    assert first.figures["fps"] == 25
    assert first.figures["mean_intensity"] == pytest.approx(frames[:FRAMES].mean(), rel=0.02)


def test_a_challenger_in_shadow_answers_the_first_window_of_a_stream(steady, packages):
    steady.aliases.now["challenger"] = "2"
    steady.look_again()
    frames = speckle(3 * FRAMES, 120, 160)
    stream(steady, {"fps": 25, "height": 120, "width": 160, "site": "north"}, [frame.tobytes() for frame in frames])
    wait(lambda: len(steady.rows) == 4)
    (shadow,) = [row for row in steady.rows if row.role == "shadow"]
    champion = next(row for row in steady.rows if row.role == "champion")
    assert (shadow.version, shadow.site, shadow.input) == ("2", "north", champion.input)
    expected = load(packages["2"]).predict(frames[:FRAMES]).probabilities
    assert shadow.probabilities == pytest.approx(expected, abs=1e-5)


def test_the_first_window_holds_the_frames_that_the_network_saw(packages):
    """With a scene cut before the first answer, and with every second frame in the window."""
    streamer = open_stream(packages["1"])
    frames = speckle(4 * FRAMES, 120, 160)
    for step, cut in ((1.0, 2), (2.0, 0)):
        streamer.begin(fps=25, cuts=[cut])
        streamer.step = step
        first = FirstWindow(25)
        for frame in frames:
            seen = first.add(streamer, frame, (streamer.push(frame)) is not None)
            if seen:
                break
        expected = range(cut, cut + FRAMES) if step == 1 else range(0, 2 * FRAMES, 2)
        assert (seen.frames == frames[list(expected)]).all() and seen.figures["fps"] == 25 / step
        assert first.add(streamer, frame, True) is None


@pytest.mark.parametrize(
    ("first", "frame", "words"),
    [
        ({"fps": 0}, b"", "fps"),
        ({"path": "/etc/passwd"}, b"", "path"),
        ({"height": 4, "width": 400_000_000}, b"1234", "at most"),
        ({"height": 60, "width": 80}, b"1234", "found 4 bytes"),
        ({}, b"no picture", "PNG or JPEG"),
        ({"height": 60}, b"", "raw frames need height and width"),
        ({"height": 60, "width": 80}, "text", "A frame must be a binary message"),
    ],
)
def test_a_stream_says_what_is_wrong_and_ends(steady, first, frame, words):
    wrong = stream(steady, first, [frame] if frame else [])[-1]["wrong"]
    assert words in wrong and "0x" not in wrong and not wrong.startswith(":")
    wait(lambda: steady.desk.open_streams == 0)


def test_a_stream_needs_a_token_and_a_place(steady, monkeypatch):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with pytest.raises(InvalidStatus):
        connect(steady.address.replace("http", "ws") + "/v1/stream", proxy=None, open_timeout=60)
    monkeypatch.setattr(steady.desk, "open_streams", 1)
    with pytest.raises(Exception, match="All streams are taken"):
        stream(steady, {"fps": 25}, [])
