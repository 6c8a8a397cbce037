"""Records all cines of a synthetic hospital, on as many cores as are wanted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from fetalflow.settings.params import Phantom


def record_all(
    record: Callable[[Any, Phantom, Path], list[dict[str, Any]]],
    cines: Sequence[Any],
    settings: Phantom,
    folder: Path,
    workers: int,
    on_cine: Callable[[int, int], None],
) -> pd.DataFrame:
    """Call `record` for each cine and return all of its rows, in the order of `cines`.

    cines: each has `video`, its path in `folder`. folder: an absolute path, because a worker process may have another
    working folder. workers: of joblib, -1 is every core. on_cine: gets the number of finished cines and of all.
    """
    for cine in cines:
        (folder / cine.video).parent.mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    jobs = Parallel(n_jobs=workers, return_as="generator")(delayed(record)(c, settings, folder) for c in cines)
    rows: list[dict[str, Any]] = []
    for done, found in enumerate(jobs, start=1):
        rows += found
        on_cine(done, len(cines))
    return pd.DataFrame(rows)
