"""Figures of the nights for Prometheus: looks, deliveries, quarantine, disk, trainings and versions.

No figure has a name of a patient, a file, a delivery, a workspace or a hospital: the only labels are tasks, kinds of
quarantine, states and aliases.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from datetime import datetime
from pathlib import Path

import pandas as pd
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.registry import Collector

from fetalflow.annotation.corrections import judged
from fetalflow.annotation.journal import JOURNAL, Journal
from fetalflow.errors import InputError, TrackingFailed
from fetalflow.hospital.arrival.journal import listing
from fetalflow.hospital.quarantine_desk import TO_DO
from fetalflow.registry.candidates import alias_versions
from fetalflow.settings.params import TaskSettings, load_settings
from flows.checkout import CHECKOUT
from flows.retrain import workspace_of

STATES = ("taken", "again", "refused")  # of a delivery, after which it waits no longer


class Night(Collector):
    """Reads the figures anew for each answer. workspace: one folder, or None for the usual workspace of each task."""

    def __init__(self, workspace: Path | None = None) -> None:
        tasks = load_settings((workspace or CHECKOUT) / "params.yaml").tasks
        self.folders = {task: workspace or workspace_of(task) for task in tasks}

    def collect(self) -> Iterator[Gauge]:
        gauges = _gauges()
        disk = shutil.disk_usage(next((f for f in self.folders.values() if f.is_dir()), CHECKOUT))
        gauges["fetalflow_disk_free_bytes"].add_metric([], disk.free)
        gauges["fetalflow_disk_bytes"].add_metric([], disk.total)
        for task, folder in self.folders.items():
            if (folder / "params.yaml").is_file():
                block = load_settings(folder / "params.yaml").block(task)
                _add_inbox(gauges, task, folder / block.retrain.store / task)
                _add_files(gauges, task, folder)
                _add_versions(gauges, task, folder, block)
        yield from gauges.values()


def _gauges() -> dict[str, Gauge]:
    described = {
        "fetalflow_last_look_timestamp_seconds": ("When the inbox was last read, without an error.", ["task"]),
        "fetalflow_deliveries_waiting": ("Deliveries that could not be taken at the last look.", ["task"]),
        "fetalflow_deliveries": ("Deliveries that were taken, came again or were refused so far.", ["task", "state"]),
        "fetalflow_quarantine_rows": ("Rows in quarantine.", ["task", "kind"]),
        "fetalflow_last_training_timestamp_seconds": ("When a trained model was last registered.", ["task"]),
        "fetalflow_model_version": ("The registered version behind an alias.", ["task", "alias"]),
        "fetalflow_registry_up": ("Whether the registry answered.", ["task"]),
        "fetalflow_champion_answers": ("Answers of the champion that people judged.", ["task", "judged"]),
        "fetalflow_disk_free_bytes": ("Free space where the workspaces are.", []),
        "fetalflow_disk_bytes": ("Size of that disk.", []),
    }
    return {name: Gauge(name, text, labels=labels) for name, (text, labels) in described.items()}


def _add_inbox(gauges: dict[str, Gauge], task: str, store: Path) -> None:
    found = listing(store)
    if found["looked"]:
        looked = datetime.fromisoformat(found["looked"]).timestamp()
        gauges["fetalflow_last_look_timestamp_seconds"].add_metric([task], looked)
    gauges["fetalflow_deliveries_waiting"].add_metric([task], len(found["waiting"]))
    counted = Counter(line["state"] for line in found["happened"])
    for state in STATES:
        gauges["fetalflow_deliveries"].add_metric([task, state], counted[state])


def _add_files(gauges: dict[str, Gauge], task: str, folder: Path) -> None:
    quarantine, registered = folder / "data" / task / "quarantine.csv", folder / "reports" / task / "registered.json"
    if quarantine.is_file():
        kinds = Counter(pd.read_csv(quarantine, dtype=str, keep_default_na=False, usecols=["kind"])["kind"])
        for kind in TO_DO:
            gauges["fetalflow_quarantine_rows"].add_metric([task, kind], kinds.pop(kind, 0))
        gauges["fetalflow_quarantine_rows"].add_metric([task, "other"], kinds.total())
    if registered.is_file():
        gauges["fetalflow_last_training_timestamp_seconds"].add_metric([task], registered.stat().st_mtime)


def _add_versions(gauges: dict[str, Gauge], task: str, folder: Path, block: TaskSettings) -> None:
    aliases = {"champion": block.promote.champion, "challenger": block.register_.alias}
    try:
        with chdir(folder):  # the embedded registry is looked for in the current folder
            versions = alias_versions(block.register_.model, *aliases.values())
    except TrackingFailed:
        gauges["fetalflow_registry_up"].add_metric([task], 0)
        return
    except InputError:  # it has no model of the task yet
        versions = (None, None)
    gauges["fetalflow_registry_up"].add_metric([task], 1)
    for alias, version in zip(aliases, versions, strict=True):
        if version is not None:
            gauges["fetalflow_model_version"].add_metric([task, alias], int(version))
    if versions[0] is not None:
        _add_judged(gauges, task, folder, f"{block.register_.model} {versions[0]}")


def _add_judged(gauges: dict[str, Gauge], task: str, folder: Path, champion: str) -> None:
    """How many answers of the champion people called right and wrong in the review station."""
    path = folder / JOURNAL
    found = judged(Journal(path).events(task)) if path.is_file() else []
    right = [each.correction.right for each in found if each.correction.model == champion]
    for state in (True, False):
        gauges["fetalflow_champion_answers"].add_metric([task, "right" if state else "wrong"], right.count(state))
