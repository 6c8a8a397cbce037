"""A small finished run: real files by the real stages, of networks that were hardly trained."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from filelock import FileLock
from variant_entries import entry, put_variants

from fetalflow.artefacts import file_digest, read_json, write_json, write_table, write_text
from fetalflow.hospital.drop.quarantine import quarantine_table, rejected_row
from fetalflow.inference.latency import NOTE, machine
from fetalflow.models.building import build
from fetalflow.models.familiarity import Familiarity
from fetalflow.models.weights import save
from fetalflow.settings.params import load_settings
from fetalflow.training.answers import answer_rows, answer_table, familiarity_of
from fetalflow.training.one_run import PARTS

ROOT = Path(__file__).parents[2]
TASK = "movement"
LABELS = ["arm", "head", "heart"]
FRAMES, SIZE = 4, 32
PATIENTS = 18
SEQUENCES_EACH = 2
STEPS = 12
VERDICT = {
    "success": True,
    "task": TASK,
    "expectations": [
        {"name": "unique_ids", "suite": "manifest", "success": True, "severity": "critical", "expected": "each id once"}
        | {"found": "all 36 sequences", "advice": "", "n_rows": 0, "rows": []},
        {"name": "blank_frames", "suite": "sequences", "success": False, "severity": "warning", "expected": "no blank"}
        | {"found": "2 of 36", "advice": "Look at these cines.", "n_rows": 2, "rows": ["sequence <1>", "sequence 2"]},
    ],
}
ENGINES = [  # as the export stage judges them; the format is a file of another kind, and never the fastest
    {"engine": "torch", "passed": True, "reasons": [], "default": False, "sequences": 12, "macro_f1_loss": 0.0}
    | {
        "unfamiliar_loss": -0.0,
        "same_label": 1.0,
        "accuracy": 11 / 12,
        "ms": 2.5,
        "ms_p95": 3.25,
        "threads": 2,
        "bytes": 5_500_000,
    },
    {"engine": "onnx", "passed": True, "reasons": [], "default": True, "sequences": 12, "macro_f1_loss": 0.21}
    | {
        "unfamiliar_loss": -0.001,
        "same_label": 0.99,
        "accuracy": 10 / 12,
        "ms": 9.0,
        "ms_p95": 9.5,
        "threads": 2,
        "bytes": 5_600_000,
    },
    {"engine": "int8", "passed": False, "reasons": ["it could not be made: no <Sort>"], "default": False},
]
EXTRACT = {
    "rows": 37,
    "decoded_frames": 1234,
    "promised_frames": 1240,
    "decoded_of_promised": 1234,
    "cuts": 1,
    "kappa": {"arm": 0.81, "head": None},
}


def small_params(variants: tuple[str, ...], frames: int) -> dict:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params.pop("profiles")
    for other in [name for name in params["tasks"] if name != TASK]:
        del params["tasks"][other], params[other]
    params["phantoms"] = [TASK]
    put_variants(params, TASK, [entry(TASK, variant) for variant in variants])
    block = params[TASK]
    block["extract"] |= {"labels": LABELS, "frames": frames, "stride": frames}
    block["preprocess"]["size"] = SIZE
    block["evaluate"] = {"bootstrap": 200, "latency_repeats": 5}
    block["explain"] = {"per_class": 1, "measured": 4, "mistakes": 1}
    return params


def manifest(folder: Path, frames: int) -> pd.DataFrame:
    """Sequences of noise with a bright square whose place belongs to the label, but for every fifth patient."""
    random = np.random.default_rng(3)
    rows = []
    for patient in range(PATIENTS):
        for i in range(SEQUENCES_EACH):
            label = LABELS[(patient + i) % len(LABELS)]
            pixels = random.integers(20, 90, (frames, SIZE, SIZE), dtype=np.uint8)
            at = 6 * ((LABELS.index(label) + (patient % 5 == 0)) % len(LABELS))
            pixels[:, at : at + 8, at : at + 8] += 120
            source = f"{patient:04x}{i:02x}".ljust(64, "0")
            name = f"{source[:12]}-{0:06d}"
            path = folder / "sequences" / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, pixels)
            rows.append(
                {
                    "sequence": name,
                    "video": f"cine{patient}_{i}.avi",
                    "source": source,
                    "patient": f"P{patient:02d}",
                    "site": f"S{patient % 2}",
                    "device": f"D{patient % 3}",
                    "operator": ["", "Op. 1", "Op. 2"][patient % 3],
                    "label": label,
                    "annotators": "a;b",
                    "first_frame": 0,
                    "last_frame": frames - 1,
                    "frames": frames,
                    "fps": 30.0,
                    "mm_per_px": 0.5,
                    "height": SIZE,
                    "width": SIZE,
                    "path": f"sequences/{name}.npy",
                    "digest": file_digest(path),
                }
            )
    return pd.DataFrame(rows)


def read(rows: pd.DataFrame, folder: Path) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.load(folder / path) for path in rows["path"]])).float() / 255


def learn(network: torch.nn.Module, rows: pd.DataFrame, folder: Path) -> None:
    """A few steps, so that answers are neither all right nor all wrong. They take 2 s, and many files of tests take the
    same ones in several processes: what they lead to is kept for all."""
    x, y = read(rows, folder), torch.tensor([LABELS.index(label) for label in rows["label"]])
    given = [*network.state_dict().values(), torch.get_rng_state(), x, y]
    begin = hashlib.sha256(b"".join(each.numpy().tobytes() for each in given)).hexdigest()
    learnt = Path(os.environ["TESTS_FOLDER"], f"{begin}.pt")
    with FileLock(f"{learnt}.lock"):
        if not learnt.exists():
            _take_steps(network, x, y)
            torch.save([network.state_dict(), torch.get_rng_state()], learnt)
    weights, random = torch.load(learnt)
    network.train().load_state_dict(weights)
    torch.set_rng_state(random)


def _take_steps(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-4)
    network.train()
    for _ in range(STEPS):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()


def asked(network: torch.nn.Module, model: dict, rows: pd.DataFrame, folder: Path) -> tuple[Familiarity, pd.DataFrame]:
    """What the train stage does once a network is fitted."""
    answered = {part: answer_rows(network, rows[rows["part"] == part], folder, LABELS) for part in PARTS}
    familiarity = familiarity_of(network, answered, 0.05)
    tables = [answer_table(answered[part], familiarity, model, 0, 0) for part in ("validation", "test")]
    return familiarity, pd.concat(tables)


def make_finished_run(
    workspace: Path, variants: tuple[str, ...] = ("fetalmovnet", "cnn"), explain: bool = True, frames: int = FRAMES
) -> Path:
    """Write what every stage before the report writes. One annotator, no masks; variants and N as the arguments say."""
    import stages.evaluate
    import stages.explain
    import stages.significance
    import stages.split

    data, reports = workspace / "data" / TASK, workspace / "reports" / TASK
    (workspace / "params.yaml").parent.mkdir(parents=True, exist_ok=True)
    (workspace / "params.yaml").write_text(yaml.safe_dump(small_params(variants, frames), sort_keys=False))
    table = manifest(data, frames)
    write_table(data / "manifest.parquet", table)
    bad = {
        "video": "cut <off>.avi",
        "patient": "P99",
        "label": "arm",
        "annotator": "a",
        "start_frame": 0,
        "end_frame": 9,
    }
    write_table(
        data / "quarantine.csv", quarantine_table([rejected_row(bad, "truncated", "The header promised 9 frames.")])
    )
    with working_in(workspace):
        settings = load_settings()
        stages.split.main(TASK)
        rows = table.merge(pd.read_parquet(data / "split.parquet")[["sequence", "part"]], on="sequence")
        for seed, variant in enumerate(variants):
            torch.manual_seed(seed)
            network = build(variant, frames, SIZE, len(LABELS))
            learn(network, rows[rows["part"] == "train"], data)
            config = {
                "task": TASK,
                "variant": variant,
                "network": variant,
                "labels": LABELS,
                "frames": frames,
                "size": SIZE,
                "options": {},
            }
            config["extract"] = settings.blocks[TASK].extract.model_dump(mode="json")
            familiarity, answered = asked(network, config, rows, data)
            config["familiarity"] = familiarity.facts | {"false_alarms": 0.05}
            save(workspace / "models" / TASK / variant, network, config, familiarity.arrays)
            write_table(data / "predictions" / f"{variant}.csv", answered)
            write_table(reports / "curves" / f"{variant}.csv", curves())
        write_json(reports / "quality" / "verdict.json", VERDICT)
        write_json(reports / "extract.json", EXTRACT)
        export(workspace, *variants)
        stages.evaluate.main(TASK)
        stages.significance.main(TASK)
        if explain:
            stages.explain.main(TASK)
    return workspace


@contextlib.contextmanager
def working_in(workspace: Path) -> Iterator[None]:
    """The workspace as current folder, and one thread: networks this small are slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with contextlib.chdir(workspace):
            yield
    finally:
        torch.set_num_threads(threads)


def latencies(variants: tuple[str, ...]) -> dict[str, dict]:
    """As the export stage times them: the main variant takes what the engine torch takes."""
    torch_row = ENGINES[0]
    first = {"ms_per_sequence": torch_row["ms"], "ms_per_sequence_p95": torch_row["ms_p95"], "backbone_ms": None}
    first |= {"ms_per_frame": 0.625, "sequences_per_s": 400.0, "frames_per_s": 1600.0, "wait_ms": 133.0}
    first |= {"answer_ms": 135.5, "repeats": 5, "frames": FRAMES, "size": SIZE}
    return {variant: first | {"ms_per_sequence": first["ms_per_sequence"] + i} for i, variant in enumerate(variants)}


def export(workspace: Path, variant: str, *rivals: str) -> None:
    """What the export stage leaves of a run with one format that passed."""
    package = read_json(workspace / "models" / TASK / variant / "config.json")["weights"]["sha256"]
    folder = workspace / "exports" / TASK / variant
    write_text(folder / "onnx" / "model.onnx", "no network")
    digest = file_digest(folder / "onnx" / "model.onnx")
    write_json(folder / "onnx" / "export.json", {"package": package, "files": {"model.onnx": digest}})
    found = {"task": TASK, "variant": variant, "package": package, "machine": machine(), "engines": ENGINES}
    found |= {"latency": {"note": NOTE, "machine": machine(), "variants": latencies((variant, *rivals))}}
    found["stream"] = ENGINES
    for place in (folder, workspace / "reports" / TASK):
        write_json(place / "export.json", found)


def curves() -> pd.DataFrame:
    falling = [1.1, 0.9, 0.8]
    columns = {
        "train_loss": falling,
        "train_accuracy": [0.3, 0.4, 0.6],
        "val_loss": falling,
        "val_accuracy": [0.3, 0.5, 0.4],
    }
    return pd.DataFrame({"fold": 0, "seed": 0, "epoch": [1, 2, 3]} | columns | {"seconds": 0.1})
