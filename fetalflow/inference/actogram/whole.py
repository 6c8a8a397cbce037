"""What the network says of a whole cine, from its answers to the windows of an actogram."""

from collections.abc import Sequence

import numpy as np

from fetalflow.evaluation.certainty.record import Certainty
from fetalflow.inference.actogram.events import Windowed
from fetalflow.inference.actogram.result import MOSTLY, WholeAnswer


def answer_of(
    windows: Sequence[Windowed], labels: Sequence[str], certainty: Certainty, moves: bool
) -> WholeAnswer | None:
    """As `Package.predict` answers a cine: the mean over its windows, and no set where the cine is unlike the training
    data. None where no window was answered. moves: whether the actogram has an event."""
    if not windows:
        return None
    shown = np.stack([each.probabilities for each in windows])
    mean = certainty.uncalibrated(shown).mean(axis=0)
    best, known = int(mean.argmax()), [each.unfamiliar for each in windows if each.unfamiliar is not None]
    unlike = float(np.mean(known)) if known else None
    says = moves and (unlike is None or unlike <= MOSTLY)
    label_set = certainty.label_set(dict(zip(labels, mean.tolist(), strict=True))) if says else None
    return WholeAnswer(
        label=labels[best] if says else None,
        probability=round(float(certainty.calibrated(mean)[best]), 3) if says else None,
        label_set=None if label_set is None else tuple(label_set),
        level=None if label_set is None else certainty.level,
        share=round(float((shown.argmax(axis=1) == best).mean()), 3),
        unlike=unlike,
        windows=len(windows),
    )
