"""The synthetic hospital delivers its drop."""

import time
from pathlib import Path

from fetalflow.artefacts import atomic_folder
from fetalflow.settings import load_settings
from fetalflow.tasks import get_task


def main(task: str) -> None:
    settings = load_settings().blocks[task].phantom
    make_drop = get_task(task).resolve("make_drop")
    started, told = time.monotonic(), 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if done == total or now - told > 5:
            told = now
            print(f"{done} of {total} cines recorded, {now - started:.0f} s", flush=True)

    drop = Path("data") / task / "drop"
    with atomic_folder(drop) as folder:
        table = make_drop(settings, folder, on_cine=tell)
    cines, patients, sites = (table[column].nunique() for column in ("video", "patient", "site"))
    print(f"{cines} cines of {patients} patients at {sites} sites in {drop}")


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
