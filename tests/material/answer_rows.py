"""Answers of a model in use, made up: two sites, a device that may change."""

import numpy as np

from fetalflow.watch.row import Answered

LABELS = ("arm", "head", "heart")
WEIGHTS = "0" * 64


def answers(
    day: str, seed: int, changed: bool = False, patients: int = 8, sites: tuple[str, ...] = ("S0", "S1"), **facts
):
    """Answers of a day; where `changed`, S1 has another device: darker pictures, of which the model is less sure."""
    random = np.random.default_rng(seed)
    for site in sites:
        for patient in range(patients):
            for number in range(3):
                dark = changed and site == "S1"
                top = random.uniform(0.36, 0.5) if dark else random.uniform(0.9, 0.999)
                rest = (1 - top) / 2
                label = LABELS[int(random.integers(3))]
                yield Answered(
                    **{"task": "movement", "origin": "service", "weights": WEIGHTS, "model": "m", "version": "1"}
                    | {"patient": f"{day}-{site}-{patient}", "site": site, "time": f"{day}T10:00:00.000+00:00"}
                    | {
                        "input": f"{day}-{site}-{patient}-{number}",
                        "label": label,
                        "latency_ms": float(random.gamma(4, 5)),
                    }
                    | {"figures": {"mean_intensity": float(random.normal(20 if dark else 60, 5)), "fps": 30.0}}
                    | {
                        "probabilities": dict.fromkeys(LABELS, rest) | {label: top},
                        "unfamiliarity": float(random.gamma(4, 0.1)),
                    }
                    | {"unfamiliar": False}
                    | facts
                )
