"""Log the finished run to MLflow and give its model the challenger's alias."""

import sys
from pathlib import Path

from fetalflow.artefacts import write_json
from fetalflow.settings import load_settings
from fetalflow.tracking import TrackingFailed, log_run


def main(task: str) -> None:
    try:
        registered = log_run(task, load_settings())
    except TrackingFailed as error:
        # Not an input at fault: the flow tries this again, and so can a person.
        sys.exit(f"{error}\nEverything before is done and kept. Run it again when the server answers.")
    write_json(Path("reports") / task / "registered.json", registered)
    print(f"{registered['model_uri']} is version {registered['version']}, run {registered['run_id']}")
    print(f"MLflow: {registered['tracking_uri']}")


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
