"""Deliveries with the names of `name_search` in every place that a delivery has."""

from pathlib import Path

from canary import CANARY, NAME, canary_drop, planted, write_mp4
from name_search import SECOND

HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label\n"
ROW = f"{CANARY}.mp4,{SECOND},north,U7,{NAME},,,head\n"
TABLES = {  # of deliveries that cannot come in
    f"refused {SECOND}": f"video,{NAME},{SECOND}\n{CANARY},{NAME},{SECOND}\n",
    f"outside {NAME}": HEADER + ROW.replace(CANARY, f"../{CANARY}"),
    f"waiting {NAME}": HEADER + ROW,
    f"crash {NAME}": HEADER + ROW,
}


def good_delivery(folder: Path) -> Path:
    """Cines of two labels that can be used, and faulty rows; without those for which a whole delivery waits or is
    refused."""
    canary_drop(folder)
    lines = (folder / "annotations.csv").read_text().splitlines(keepends=True)
    with open(folder / "annotations.csv", "w") as table:
        table.writelines(line for line in lines if "outside" not in line and "missing" not in line)
        for n in range(10, 22):
            write_mp4(folder / f"{SECOND} {n}.mp4", planted(n))
            label = ("head", "arm")[n % 2]
            table.write(f"{SECOND} {n}.mp4,{SECOND} {n},south,Probe 4,{SECOND},,,{label},0.3,2026-03-{n},{SECOND},\n")
    (folder / "COMPLETE").touch()
    return folder


def faulty_delivery(folder: Path, name: str) -> Path:
    """One of `TABLES`, without a cine."""
    (folder / name).mkdir(parents=True)
    (folder / name / "annotations.csv").write_text(TABLES[name])
    (folder / name / "COMPLETE").touch()
    return folder / name


def second_delivery(folder: Path) -> Path:
    """Cines of twelve other patients."""
    folder.mkdir()
    with open(folder / "annotations.csv", "w") as table:
        table.write(HEADER)
        for n in range(30, 42):
            write_mp4(folder / f"{SECOND} {n}.mp4", planted(n))
            table.write(f"{SECOND} {n}.mp4,{SECOND} {n},south,Probe 4,{SECOND},,,{('head', 'arm')[n % 2]}\n")
    (folder / "COMPLETE").touch()
    return folder
