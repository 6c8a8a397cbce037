"""Log the finished run to MLflow and give its model the challenger's alias, by way of the ledger."""

import sys
from pathlib import Path

from fetalflow.artefacts import write_json
from fetalflow.ledger import record_move
from fetalflow.settings import load_settings
from fetalflow.tracking import TrackingFailed, log_run


def main(task: str) -> None:
    try:
        made = log_run(task, load_settings())
        line = record_move(made["name"], made["alias"], made["version"], made["evidence"], "the newest finished run")
    except TrackingFailed as error:
        # Not an input at fault: the flow tries this again, and so can a person.
        sys.exit(
            f"{error}\nOnly registering is left: everything before is done and kept. The next run, by hand or on a "
            "schedule, does just that once the server answers. Run it again to try at once."
        )
    write_json(Path("reports") / task / "registered.json", made)
    print(f"{made['model_uri']} is version {made['version']}, run {made['run_id']}")
    if line:
        print(f"Ledger: line {line['number']}, hash {line['sha256']}")
    print(f"MLflow: {made['tracking_uri']}")


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
