"""What a person should know of the cines that were read: sentences of their records, and scales that disagree."""

from collections.abc import Iterable, Mapping
from typing import Any

OTHER_SCALE = 0.02  # share by which the scale in a row may differ from that of its file


def remarks_of(rows: Iterable[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Remarks by video, sorted by name; only of cines that have one. rows: of a drop; records: of `store_cine`."""
    found = {video: list(record.get("remarks", ())) for video, record in records.items()}
    for row in rows:
        of_file = records.get(row["video"], {}).get("mm_per_px")
        if of_file and (given := _number(row.get("mm_per_px"))) and abs(given / of_file - 1) > OTHER_SCALE:
            what = f"{row['where']} gives {given:g} mm per pixel, the file {of_file:.4g}; that of the row is used"
            found[row["video"]].append(what)
    return {video: list(dict.fromkeys(each)) for video, each in sorted(found.items()) if each}


def grouped(remarks: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """`text`, `cines` (how many) and `first` (the name of one) of each remark, the most frequent first."""
    by_text: dict[str, list[str]] = {}
    for video, texts in remarks.items():
        for text in texts:
            by_text.setdefault(text, []).append(video)
    rows = [{"text": text, "cines": len(videos), "first": videos[0]} for text, videos in by_text.items()]
    return sorted(rows, key=lambda row: -row["cines"])


def _number(text: str | None) -> float | None:
    try:
        return float(text or "") or None
    except ValueError:
        return None
