"""What people said of a model's answers in the review station, on the page of its version in MLflow."""

from contextlib import chdir
from pathlib import Path

from fetalflow.annotation.corrections import ANY
from fetalflow.errors import InputError, TrackingFailed
from fetalflow.registry.tracking import registry
from fetalflow.registry.version_page import show_answers
from fetalflow.settings.params import TaskSettings
from fetalflow.watch.look import corrected


def show_judged(folder: Path, task: str, block: TaskSettings) -> str:
    """Put the counts of right and wrong answers on each version that was judged; return why it could not be done, or
    "". A registry that is out of reach keeps nobody from a training."""
    model = block.register_.model
    rows = {row["model"]: row for row in corrected(folder, task) if row["origin"] == ANY}
    words = {
        name.removeprefix(f"{model} "): f"{row['right']} right, {row['wrong']} wrong, {row['patients']} patients"
        for name, row in rows.items()
        if name.startswith(f"{model} ")
    }
    if not words:
        return ""
    try:
        with chdir(folder), registry() as store:  # the embedded store is looked for in the current folder
            show_answers(store, model, words)
    except (InputError, TrackingFailed) as error:
        return f"The judged answers are not in the registry: {error}"
    return ""
