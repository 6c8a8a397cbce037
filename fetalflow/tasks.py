"""What differs from task to task. A stage asks its task; no stage asks which task it is.

Labels, sample shape, networks and losses are already data: they stand in `params.yaml` and in the manifest.
What is left is code and literature, named here. Functions are named, not imported, so that a stage depends only
on the code of its own task and its own step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name

from fetalflow.errors import InputError


@dataclass(frozen=True)
class Task:
    """One system from the literature."""

    title: str
    make_drop: str  # module:function that builds the synthetic hospital's drop
    source: str  # the paper
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # variant -> the paper's figures

    def resolve(self, name: str) -> Callable:
        """The function behind one of this task's `module:function` fields."""
        return resolve_name(getattr(self, name))


TASKS: Mapping[str, Task] = {
    "movement": Task(
        title="Fetal movement: which anatomy moves",
        make_drop="fetalflow.phantom.movement.hospital:make_drop",
        source="Turkan et al., FetalMovNet, Table 4 (177 test sequences, split by sequence)",
        published={
            "cnn": {"accuracy": 0.9153, "macro_precision": 0.9112, "macro_recall": 0.9083, "f1_of_macros": 0.9098},
            "cnn_lstm": {"accuracy": 0.9265, "macro_precision": 0.9191, "macro_recall": 0.9228, "f1_of_macros": 0.9209},
            "fetalmovnet": {
                "accuracy": 0.9887,
                "macro_precision": 0.9871,
                "macro_recall": 0.9910,
                "f1_of_macros": 0.9891,
            },
        },
    ),
    "planes": Task(
        title="Fetal standard planes: which plane a frame shows",
        make_drop="fetalflow.phantom.planes.hospital:make_drop",
        source="the light plane classifier (arXiv 2410.17396; FETAL_PLANES_DB, 80:20 by image)",
        published={"lite_attention": {"accuracy": 0.9625, "top2_accuracy": 0.9980, "mean_class_f1": 0.9576}},
    ),
    "biometry": Task(
        title="Fetal biometry: head, abdomen and femur in mm",
        make_drop="fetalflow.phantom.biometry.hospital:make_drop",
        source="Płotka et al., FetalNet (arXiv 2107.06943): videos of 700 patients, not public; errors in HC, AC, FL",
        published={
            "fetalnet": {
                **{"accuracy": 0.96, "macro_precision": 0.97, "macro_recall": 0.96, "f1_of_macros": 0.97},
                **{"iou": 0.905, "dice": 0.962, "hc_mae_mm": 2.9, "ac_mae_mm": 3.8, "fl_mae_mm": 0.8},
            }
        },
    ),
}


def get_task(name: str) -> Task:
    """Raises InputError naming the known tasks."""
    try:
        return TASKS[name]
    except KeyError:
        raise InputError(f"no task is called {name!r}; known tasks: {', '.join(sorted(TASKS))}") from None
