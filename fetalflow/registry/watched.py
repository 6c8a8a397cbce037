"""What was seen of a model in use, as metrics of one run in MLflow."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from fetalflow.errors import InputError
from fetalflow.registry.run_record import as_part
from fetalflow.registry.tracking import registry

TAG = "fetalflow.watch"  # of the run: the task


def log_days(experiment: str, task: str, days: Mapping[str, Mapping[str, float]]) -> str:
    """Log the figures of days, such as {"2026-11-30": {"answers": 120}}, to the run of the task in `experiment`, which
    is made where it is missing; return the id of the run. The step of a metric is the number of the day (1970-01-01 is
    0), its name may have parts, such as estimated_accuracy/SITE.

    Raises TrackingFailed when the server is out of reach, InputError where there is no store or the experiment was
    deleted.
    """
    with registry() as store:
        client = store.client
        found = client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            raise InputError(f"the MLflow experiment {experiment!r} was deleted. Restore it in MLflow.")
        place = client.create_experiment(experiment, store.artefacts) if found is None else found.experiment_id
        runs = client.search_runs([place], f"tags.`{TAG}` = '{task}'", max_results=1)
        run = (runs[0] if runs else client.create_run(place, tags={TAG: task}, run_name=f"{task} in use")).info.run_id
        for day, figures in days.items():
            moment = date.fromisoformat(day)
            step, stamp = (moment - date(1970, 1, 1)).days, (moment - date(1970, 1, 1)).days * 86_400_000
            for name, value in figures.items():
                client.log_metric(run, "/".join(map(as_part, name.split("/"))), float(value), stamp, step)
        return run


def figures_of(report: Mapping[str, Any], every_site: str) -> dict[str, float]:
    """The metrics, by name, of the report about one day, which `fetalflow.watch.judged.judge_day` made."""
    figures: dict[str, float] = {"findings": len(report["findings"])}
    for site, one in report["sites"].items():
        of = "" if site == every_site else f"/{site.replace('/', '_')}"
        figures |= {f"{name}{of}": one[name] for name in ("answers", "unfamiliar", "refused", "p95_ms")}
        figures[f"estimated_accuracy{of}"] = report["estimated"].get(site, {}).get("accuracy")
    figures |= {f"shadow_agreement/{each['model'].replace('/', '_')}": each["agreement"] for each in report["shadows"]}
    return {name: value for name, value in figures.items() if value is not None}
