"""What the literature reports for each task, and its title. No stage contains a branch for a certain task.

Labels, sequence shape, networks and losses are settings: they are in `params.yaml` and in the manifest. The phantom and
the networks of a task are found by the names of their files (docs/extend.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fetalflow.errors import InputError


@dataclass(frozen=True)
class Task:
    """One task, after one paper."""

    title: str
    source: str  # the paper, and the data of its results
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # variant -> metrics in the paper
    networks: Mapping[str, str] = field(default_factory=dict)  # network -> where it is from; others are this project's

    def source_of(self, network: str) -> str:
        """Where a network is from, for people who read about a model."""
        return self.networks.get(network, "a network of this project, from no paper")


TASKS: Mapping[str, Task] = {
    "movement": Task(
        title="Fetal movement: which anatomy moves",
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
        networks={
            "fetalmovnet": "Turkan et al., FetalMovNet, Section III-C, Tables 2 and 3",
            "cnn": "Turkan et al., FetalMovNet, Section IV: FetalMovNet without attention",
            "cnn_lstm": "Turkan et al., FetalMovNet, Section IV: CNN-LSTM, whose details were chosen in this project",
            "x3d_s": "Feichtenhofer 2020, X3D, arXiv 2004.04730, Table 1",
            "r2plus1d_18": "Tran et al. 2018, R(2+1)D, arXiv 1711.11248",
        },
    ),
    "planes": Task(
        title="Fetal standard planes: which plane a frame shows",
        source="the light plane classifier (arXiv 2410.17396; FETAL_PLANES_DB, 80:20 by image)",
        published={"lite_attention": {"accuracy": 0.9625, "top2_accuracy": 0.9980, "mean_class_f1": 0.9576}},
        networks={"lite_attention": "the light plane classifier, arXiv 2410.17396"},
    ),
    "biometry": Task(
        title="Fetal biometry: head, abdomen and femur in mm",
        source="Płotka et al., FetalNet (arXiv 2107.06943): videos of 700 patients, not public; errors in HC, AC, FL",
        published={
            "fetalnet": {
                **{"accuracy": 0.96, "macro_precision": 0.97, "macro_recall": 0.96, "f1_of_macros": 0.97},
                **{"iou": 0.905, "dice": 0.962, "hc_mae_mm": 2.9, "ac_mae_mm": 3.8, "fl_mae_mm": 0.8},
            }
        },
        networks={"fetalnet": "Płotka et al. 2021, FetalNet, arXiv 2107.06943"},
    ),
}


def get_task(name: str) -> Task:
    """The task called `name`. Raises InputError with the names of all tasks if there is none."""
    try:
        return TASKS[name]
    except KeyError:
        raise InputError(f"no task is called {name!r}; known tasks: {', '.join(sorted(TASKS))}") from None
