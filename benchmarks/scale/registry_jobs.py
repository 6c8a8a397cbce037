"""What `growth` measures of sites and models. A job prepares for a size and gives back what is timed."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

LABELS = ("head", "body", "arm", "hand", "heart", "leg", "foot")

# --- sites -----------------------------------------------------------------------------------------------------------


def arrival_job(count: int, folder: Path) -> Callable[[], str]:
    """One night: every site delivers one drop of two small cines."""
    from fetalflow.hospital.arrival.intake import arrive
    from fetalflow.settings.params import Retrain, Split

    for site in range(count):
        place = folder / "inbox" / f"site-{site}"
        place.mkdir(parents=True)
        rows = [
            {"video": f"{i}.avi", "patient": f"{site}-{i}", "site": f"site {site}", "device": "d", "annotator": "a"}
            | {"start_frame": "", "end_frame": "", "label": LABELS[(site + i) % 7]}
            for i in range(2)
        ]
        for i in range(2):
            (place / f"{i}.avi").write_bytes(f"RIFF{site}-{i}".encode() * 100)
        pd.DataFrame(rows).to_csv(place / "annotations.csv", index=False)
        (place / "COMPLETE").touch()

    def work() -> str:
        found = arrive(str(folder / "inbox"), folder / "store", Retrain(), Split())
        return f"{sum(a.state == 'taken' for a in found)} taken"

    return work


# --- models ----------------------------------------------------------------------------------------------------------


def registry_of(folder: Path) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"


def ledger_of(count: int, folder: Path) -> None:
    """A ledger of `count` lines: a model whose alias moves between two versions."""
    from mlflow.entities import Param

    from fetalflow.registry.client import LEDGER, RUN_TAG
    from fetalflow.registry.ledger.chain import mark_of, next_line, text_of
    from fetalflow.registry.tracking import registry

    registry_of(folder)
    said = {"who": "a", "kind": "move", "model": "net", "alias": "champion", "evidence": "0" * 64, "reason": "better"}
    lines: list[dict] = []
    for number in range(count):
        versions = {"from": str(1 + number // 2 % 2) if number > 1 else None, "to": str(1 + (number // 2 + 1) % 2)}
        step = "done" if number % 2 else "intent"
        lines.append(next_line(lines, **said, **versions, step=step, move=f"m{number // 2}"))
    with registry() as store:
        store.client.create_registered_model("net")
        for _ in range(2):
            store.client.create_model_version("net", (folder / "nowhere").as_uri())
        store.add_line(1, text_of(lines[0]))
        run = store.client.get_experiment_by_name(LEDGER).tags[RUN_TAG]
        for start in range(1, count, 100):
            batch = [Param(f"line.{line['number']:06d}", text_of(line)) for line in lines[start : start + 100]]
            store.client.log_batch(run, params=batch)
        store.set_alias("net", "champion", lines[-1]["to"])
        store.set_mark("net", mark_of(lines[-1]))


def verify_job(count: int, folder: Path) -> Callable[[], str]:
    from fetalflow.registry.ledger.record import verify

    ledger_of(count, folder)
    verify()  # the first look at a database also checks its schema

    def work() -> str:
        verdict = verify()
        return f"{verdict.lines} lines, {len(verdict.wrong)} wrong"

    return work


def move_job(count: int, folder: Path) -> Callable[[], str]:
    from fetalflow.registry.ledger.record import record_move
    from fetalflow.registry.tracking import registry

    ledger_of(count, folder)
    with registry() as store:
        to = "1" if store.aliases("net")["champion"] == "2" else "2"
    return lambda: f"line {record_move('net', 'champion', to, None, 'again', 'a')['number']}"


def lineage_job(count: int, folder: Path) -> Callable[[], str]:
    """`count` pipeline runs of 400 patients, each with two variants and a registered version."""
    from fetalflow.registry.lineage import PATIENTS, trace
    from fetalflow.registry.tracking import registry

    registry_of(folder)
    patients = [f"P{i},{i % 2},{('train', 'test')[i % 2]},5" for i in range(400)]
    table = "\n".join(["patient,fold,part,sequences", *patients])
    with registry() as store:
        client = store.client
        client.create_registered_model("net")
        place = client.create_experiment("movement", (folder / "artefacts").as_uri())
        for number in range(count):
            run = client.create_run(place, tags={"task": "movement", "data_digest": f"d{number}"}).info.run_id
            client.log_text(run, table, PATIENTS)
            for variant in ("a", "b"):
                tags = {"mlflow.parentRunId": run, "data_digest": f"d{number}", "variant": variant}
                child = client.create_run(place, tags=tags).info.run_id
            client.create_model_version("net", (folder / "nowhere").as_uri(), run_id=child)

    def work() -> str:
        with registry() as store:
            return f"{len(trace(store, 'P7').uses)} uses"

    return work
