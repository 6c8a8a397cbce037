"""Log the finished run to MLflow, and give its model the alias of the challenger through the ledger."""

import os
import sys
from pathlib import Path

from fetalflow.artefacts import write_json
from fetalflow.registry.ledger.record import record_move
from fetalflow.registry.provenance import NO_COMMIT, code_state
from fetalflow.registry.tracking import TrackingFailed, log_run, registry
from fetalflow.settings.earlier import EARLIER_MODELS
from fetalflow.settings.params import load_settings

EXPERIMENT = "DVC_EXP_NAME"  # environment variable of `dvc exp run`


def main(task: str) -> None:
    if experiment := os.environ.get(EXPERIMENT):
        # A queue of experiments would otherwise move the alias of the challenger again and again, and a queued one has
        # no embedded store.
        write_json(Path("reports") / task / "registered.json", {"experiment": experiment})
        print(
            f"{experiment} is an experiment of DVC, which is not registered. To register it: "
            f"`dvc exp apply {experiment}`, then `fetalflow run --task {task} --name {Path.cwd().name}`."
        )
        return
    try:
        registered = log_run(task, load_settings())
        name, alias, version = registered["name"], registered["alias"], registered["version"]
        line = record_move(name, alias, version, registered["evidence"], "the newest finished run")
    except TrackingFailed as error:
        # Not an InputError, so that the flow repeats this stage.
        sys.exit(
            f"{error}\nOnly registering is left: all earlier results are kept. The next run registers them when the "
            "server answers. Run it again to try now."
        )
    write_json(Path("reports") / task / "registered.json", registered)
    print(f"{registered['model_uri']} is version {version}, run {registered['run_id']}")
    if version == "1":
        _name_the_earlier_model(task, name)
    if line:
        print(f"Ledger: line {line['number']}, hash {line['sha256']}")
    print(f"MLflow: {registered['tracking_uri']}")
    if code_state() is None:
        print(NO_COMMIT)


def _name_the_earlier_model(task: str, name: str) -> None:
    earlier = EARLIER_MODELS.get(task, name)
    with registry() as store:
        champion = store.models()[0].get(earlier, {}).get("champion")
    if champion and earlier != name:
        print(
            f"This registry also has {earlier}, the name of this model until 2026-11; its champion is version "
            f"{champion}. To go on with it: --set {task}.register.model={earlier} (docs/ml-lead/promotion.md)."
        )


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
