"""Make the drop of the synthetic hospital."""

import time
from pathlib import Path
from pkgutil import resolve_name

from fetalflow.artefacts import atomic_folder
from fetalflow.settings.params import load_settings


def main(task: str) -> None:
    settings = load_settings().blocks[task].phantom
    # By its name, not by an import: a phantom depends on the code of its own task, and not on every task's.
    make_drop = resolve_name(f"fetalflow.hospital.phantom.{task}.hospital:make_drop")
    started, last_print = time.monotonic(), 0.0

    def show_progress(done: int, total: int) -> None:
        nonlocal last_print
        now = time.monotonic()
        if done == total or now - last_print > 5:
            last_print = now
            print(f"{done} of {total} cines recorded, {now - started:.0f} s", flush=True)

    drop = Path("data") / task / "drop"
    with atomic_folder(drop) as folder:
        table = make_drop(settings, folder, on_cine=show_progress)
    cines, patients, sites = (table[column].nunique() for column in ("video", "patient", "site"))
    print(f"{cines} cines of {patients} patients at {sites} sites in {drop}")


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
