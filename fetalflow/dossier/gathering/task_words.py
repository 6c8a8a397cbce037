"""What the literature calls the task and the network: the titles and papers that fetalflow knows."""

from pathlib import Path

from fetalflow.artefacts import write_json
from fetalflow.dossier.subject import Subject
from fetalflow.errors import InputError
from fetalflow.settings.tasks import get_task

FILE = "task.json"


def gather(subject: Subject, folder: Path) -> None:
    """Write `task.json`: the task's title and paper, and where the network is from; empty for an unknown task."""
    try:
        task = get_task(subject.task)
    except InputError:
        write_json(folder / FILE, {})
        return
    network = subject.config.get("network", subject.variant)
    write_json(folder / FILE, {"title": task.title, "source": task.source, "network_source": task.source_of(network)})
