"""Nights of a hospital without a training: each writes what a night writes, small, and gives its files an old date."""

import hashlib
import json
import os
from pathlib import Path

import pandas as pd
import yaml

from fetalflow.artefacts import write_json, write_table
from fetalflow.registry.address import EMBEDDED
from fetalflow.registry.ledger.record import record_move
from fetalflow.registry.tracking import _mlflow, registry
from flows.workspaces.project import begin, record_run

DAY_S = 86_400
TASK, MODEL = "planes", "fetal-planes"
KB = 1000


class Nights:
    """A workspace in the current folder. size: bytes of a model and of a night's new cine."""

    def __init__(self, folder: Path, settings: dict, size: int = 20 * KB) -> None:
        self.folder, self.size, self.last, self.sources = folder, size, 0, []
        (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        begin(folder)
        with _mlflow(EMBEDDED), registry() as store:  # the first one makes the database
            store.client.create_registered_model(MODEL)
            self.experiment = store.client.create_experiment("nights", (folder / "mlartifacts").as_uri())

    def pass_one(self, now: float) -> None:
        """A night at `now`: one new cine, a model, a version, the things that stay behind."""
        self.last += 1
        source = hashlib.sha256(f"cine {self.last}".encode()).hexdigest()
        self.sources.append(source)
        data, made = self.folder / "data" / TASK, []
        made += [self._file(data / "frames" / f"{source}.npy"), self._file(data / "frames" / f"old{self.last}.npy")]
        write_table(data / "extracted.parquet", pd.DataFrame({"source": self.sources}))
        sequences = [{"md5": self._object(each), "relpath": f"{each[:12]}.npy"} for each in self.sources]
        listing = self._object_of(json.dumps(sequences).encode(), ".dir")
        outs = {f"data/{TASK}/sequences": listing, f"data/{TASK}/manifest.parquet": self._object(f"rows {self.last}")}
        outs[f"models/{TASK}/net"] = self._object(f"model {self.last}")
        stages = {"train": {"cmd": "true", "outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}}
        (self.folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
        checkpoint = self._file(self.folder / "checkpoints" / f"{self.last}" / "last.ckpt")
        made += [checkpoint, checkpoint.parent]
        version = self._register()
        registered = {"name": MODEL, "version": version, "evidence": f"{self.last:064x}"}
        write_json(self.folder / "reports" / TASK / "registered.json", registered)
        record_run(self.folder, f"night {self.last}")
        objects = [path for path in (self.folder / ".dvc/cache/files/md5").glob("??/*")]
        for path in [*made, *objects]:
            if path.stat().st_mtime > now:
                os.utime(path, (now, now))

    def _register(self) -> str:
        with registry() as store:
            client = store.client
            run = client.create_run(self.experiment, tags={"data_digest": str(self.last), "task": TASK})
            child = client.create_run(self.experiment, tags={"mlflow.parentRunId": run.info.run_id, "variant": "net"})
            client.log_text(run.info.run_id, "x" * self.size, "report.html")
            logged = client.create_logged_model(self.experiment, name="model", source_run_id=child.info.run_id)
            self._file(Path(logged.artifact_location.removeprefix("file://")) / "model.safetensors")
            source = f"models:/{logged.model_id}"
            made = client.create_model_version(MODEL, source, run_id=child.info.run_id, model_id=logged.model_id)
        record_move(MODEL, "challenger", str(made.version), None, "the newest")
        return str(made.version)

    def _object(self, content: str) -> str:
        return self._object_of(content.encode().ljust(self.size, b"."))

    def _object_of(self, data: bytes, suffix: str = "") -> str:
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() + suffix
        if not (path := self.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return md5

    def _file(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"." * self.size)
        return path
