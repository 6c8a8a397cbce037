"""The parts of the benchmark `serving` without HTTP: cines, a registry with two versions, and the bare engine."""

import multiprocessing
import os
import time
from contextlib import chdir
from pathlib import Path

import av
import cv2
import numpy as np
import yaml

TASK, MODEL = "movement", "fetal-movement"
CINES, FRAMES, HEIGHT, WIDTH = 12, 24, 240, 320
SPAWNED = multiprocessing.get_context("spawn")


def cines_in(folder: Path) -> list[Path]:
    """Cines of moving speckle, as MJPEG."""
    folder.mkdir()
    made = []
    for number in range(CINES):
        random = np.random.default_rng(number)
        tissue = cv2.GaussianBlur(random.gamma(1.0, 90.0, (HEIGHT, WIDTH + 6 * FRAMES)).astype(np.float32), (7, 7), 1.5)
        made.append(folder / f"{number}.avi")
        with av.open(str(made[-1]), "w") as container:
            stream = container.add_stream("mjpeg", rate=30)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            for t in range(FRAMES):
                left = (number % 6) * t
                picture = np.clip(tissue[:, left : left + WIDTH], 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "gray")))
            container.mux(stream.encode())
    return made


def log_versions(folder: Path, params: Path, package: Path, exports: Path, logged: bool = False) -> None:
    """A workspace with a registry: version 1 is the package with its exports and champion, version 2 has no exports.

    logged: with a log of answers.
    """
    import mlflow

    from fetalflow.registry.logged_model import log_model

    settings = yaml.safe_load(params.read_text())
    settings["watch"] = (settings.get("watch") or {}) | ({"folder": "answers"} if logged else {})
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    with chdir(folder):
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        experiment = mlflow.create_experiment("serving", (folder / "files").as_uri())
        client = mlflow.MlflowClient()
        client.create_registered_model(MODEL)
        for formats in (exports, None):
            with mlflow.start_run(experiment_id=experiment) as run:
                logged = log_model(mlflow, package, formats, "a card")
            client.create_model_version(MODEL, logged.artifact_path, run.info.run_id, model_id=logged.model_id)
        client.set_registered_model_alias(MODEL, "champion", "1")


def versions(folder: Path) -> dict[str, Path]:
    """The packages of both versions, as they lie in the registry."""
    from fetalflow.registry.fetching import fetch_package

    with chdir(folder):
        return {version: fetch_package(f"models:/{MODEL}/{version}")[1].resolve() for version in ("1", "2")}


def expected_answers(folder: Path, cines: list[Path]) -> dict[str, list[dict[str, float]]]:
    """The library's probabilities for every cine, by version."""
    from fetalflow.inference.package import load

    found = {}
    for version, place in versions(folder).items():
        opened = load(place, engine="auto", threads=1)
        found[version] = [opened.predict(cine).probabilities for cine in cines]
    return found


def bare(folder: Path, cines: list[Path], seconds: float) -> dict[str, float]:
    """As many processes as cores, each in one thread, answer cines one after the other. rate: answers/s."""
    place = versions(folder)["1"]
    cores = len(os.sched_getaffinity(0))
    ready, go = SPAWNED.Barrier(cores + 1), SPAWNED.Queue()
    processes = [SPAWNED.Process(target=_answer, args=(place, cines, seconds, ready, go)) for _ in range(cores)]
    for process in processes:
        process.start()
    ready.wait()
    found = [go.get() for _ in processes]
    for process in processes:
        process.join()
    answers, processor_s = sum(each[0] for each in found), sum(each[1] for each in found)
    return {"answers": answers, "processor_s": processor_s, "rate": sum(n / took for n, _, took in found)}


def _answer(place: Path, cines: list[Path], seconds: float, ready: object, go: object) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    from fetalflow.inference.package import load

    package = load(place, engine="auto", threads=1)
    package.predict(cines[0])
    ready.wait()
    begun, processor, count = time.perf_counter(), time.process_time(), 0
    while (took := time.perf_counter() - begun) < seconds:
        package.predict(cines[count % len(cines)])
        count += 1
    go.put((count, time.process_time() - processor, took))
