"""The scale of a cine's stored frames, which the calipers of a page and the measurements of the network share."""

import pandas as pd

from fetalflow.station.catalogue import Cine
from fetalflow.station.place import Place


def mm_per_px(place: Place, cine: Cine) -> float | None:
    """mm per px of the stored frames: as the extraction took it from the drop's table or from the file; of a cine that
    was not extracted, that of its file. None where none is stated, or where the rows of the cine state several."""
    table = place.workspace / "data" / cine.task / "extracted.parquet"
    if cine.rows and table.is_file():
        rows = pd.read_parquet(table, columns=["mm_per_px"], filters=[("source", "==", cine.source)])
        stated = rows["mm_per_px"].dropna().unique()
        return float(stated[0]) if len(stated) == 1 else None
    return cine.record.get("mm_per_px")
