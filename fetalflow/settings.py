"""`params.yaml` as frozen models: one block per stage, unknown keys refused."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from fetalflow.errors import InputError
from fetalflow.settings_operations import Drift, Frozen, Promote, Register, Retrain


class Phantom(Frozen):
    """The synthetic hospital (DESIGN 8)."""

    seed: int = 7
    patients: int = Field(40, ge=2)
    sequences: dict[str, int]  # wanted 10-frame sequences per label, over the whole hospital
    height: int = 240  # px of the recorded video
    width: int = 320
    min_frames: int = 20  # frames of a cine
    max_frames: int = 32


class Extract(Frozen):
    """Cines to frames and windows (paper III-A)."""

    labels: tuple[str, ...] | None = None  # None: whatever the drop holds
    rest: str | None = None  # the label of what is none of the others: never the best frame of a sweep
    frames: int = Field(10, ge=1)  # N of a sequence
    every: int = Field(1, ge=1)  # of the frames at the rate of `fps` one in so many is taken; 1 skips none
    stride: int = Field(10, ge=1)  # frames, of those taken, between the starts of two sequences
    fps: float | None = None  # resample to this rate; None keeps each cine's own
    cut_threshold: float = 0.3  # 0-1, two unrelated pictures differ by 0.7; lower finds more scene cuts
    mask_overlays: bool = True
    mask_sector: bool = True
    max_bytes: int = 2_000_000_000
    max_frames: int = 20_000
    max_pixels: int = 16_000_000  # of one frame
    min_agreement: float = 0.8  # two annotators: share of the span on which they must agree
    quarantine_share: float = 0.2  # stop when more of the rows than this are quarantined
    workers: int = -1  # joblib: -1 is every core

    @property
    def sequence_in_words(self) -> str:
        skipping = "" if self.every == 1 else f" (one in {self.every})"
        return f"{self.frames} consecutive frames{skipping}"


class Preprocess(Frozen):
    """Frames to model input (paper III-B)."""

    size: int = Field(300, ge=32)  # px, square


class Split(Frozen):
    # grouped: by patient; site: each site is tested by networks that never saw it; paper: Table 1 of FetalMovNet;
    # official: the drop's own column `part`; random: by sequence
    kind: Literal["grouped", "site", "paper", "official", "random"] = "grouped"
    test: float = Field(0.3, gt=0, lt=1)
    validation: float = Field(0.15, gt=0, lt=1)  # share of the training patients
    folds: int = Field(1, ge=1)  # grouped alone; 1: one split; K: every patient is tested once
    seed: int = 0


class Validate(Frozen):
    """Bounds of the quality checks."""

    min_fps: float = 5
    max_fps: float = 120
    min_pixels: int = 96  # shorter side of the recorded frame
    max_pixels: int = 4096
    min_mm_per_px: float = 0.02
    max_mm_per_px: float = 1.5
    max_blank_share: float = 0.0  # of a sequence's frames
    max_frozen_share: float = 0.5  # of a sequence's frame pairs
    min_mean_intensity: float = 4  # of 255
    max_mean_intensity: float = 200
    min_mask_share: float = 0.0005  # of the fitted image, on average over a sequence's frames
    max_mask_share: float = 0.95
    max_quality_z: float = 6  # robust z of NIQE and BRISQUE
    min_mostly: float = 0.98  # share of the rows that must keep a quality bound
    near_duplicate_bits: int = 2  # perceptual-hash bits that may differ between duplicates
    max_class_ratio: float = 30  # largest class over smallest, in sequences: beyond it a class is a rarity
    min_patients_per_class: int = 3
    warn_only: tuple[str, ...] = ()  # expectation names that report and do not stop


class Train(Frozen):
    """Table 2 of the paper; what it leaves open is DESIGN 5."""

    batch: int = Field(4, ge=2)  # batch norm cannot train on one sequence
    epochs: int = Field(50, ge=1)
    patience: int = Field(10, ge=1)  # epochs without a better validation loss before stopping
    optimizer: Literal["rmsprop", "adam", "adamw"] = "rmsprop"
    learning_rate: float = 1e-3
    weight_decay: float = Field(0.0, ge=0)  # adamw only
    frozen_epochs: int = Field(0, ge=0)  # pretrained weights stand still in these
    pretrained_rate: float = Field(1.0, ge=0)  # their share of the learning rate once they thaw
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema: float = Field(0.0, ge=0, lt=1)  # decay per step of the averaged weights that answer; 0: the last ones answer
    schedule: Literal["constant", "cosine"] = "constant"  # cosine: falls to nearly 0 in the last epoch; calmer ending
    class_weights: bool = False
    augment: bool = False  # mirror, turn, zoom, shift, gain; not in the paper, helps where patients are few
    device_augment: bool = False  # grey curve, gain, resolution, persistence, noise of other devices: for new sites
    # As if the probe drifted, by up to this share of the frame's side over a sequence (the phantom's: up to 0.03). More
    # makes drift say less, and blurs frames more; 0: as recorded.
    drift_augment: float = Field(0.0, ge=0, le=0.5)
    # Weight of CORAL, which makes features alike at every site; too much of it makes labels alike as well. 0: sites are
    # not looked at.
    align: float = Field(0.0, ge=0)
    false_alarms: float = Field(0.05, gt=0, lt=1)  # validation sequences that "unlike anything seen" may flag
    start: str = ""  # folder of a model package that the main variant goes on from; empty: from random weights
    seeds: tuple[int, ...] = (0,)
    # Processes that read sequences; more keep a fast GPU busy and cost memory. auto: 4 for a GPU, none otherwise.
    loader_workers: int | Literal["auto"] = "auto"
    # Sequences on the device from the start: no step waits for a disk. auto: on a GPU where they take half the memory.
    resident: bool | Literal["auto"] = "auto"
    compile: bool = False  # torch.compile: minutes at the start, faster steps; pays in long trainings on a GPU, if ever
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # auto: float32 on a CPU, mixed on a GPU. bf16-mixed on a CPU that has it is faster, and rounds more.
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"

    @model_validator(mode="after")
    def _only_adamw_decays(self) -> "Train":
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(f"weight_decay {self.weight_decay} has no effect with {self.optimizer}; take adamw, or 0")
        return self

    @model_validator(mode="after")
    def _compiled_code_calls_no_hooks(self) -> "Train":
        if self.compile and self.align:
            raise ValueError(f"align {self.align} takes features by a hook, which `compile` leaves out; choose one")
        return self


class Export(Frozen):
    """Formats of the main network, and what they are judged on (docs/export.md)."""

    engines: tuple[Literal["onnx", "int8", "openvino"], ...] = ("onnx", "int8", "openvino")  # besides torch
    calibration: int = Field(64, ge=1, le=10_000)  # training sequences, at most, that set the ranges of 8 bits
    test_sequences: int = Field(500, ge=1)  # at most: every engine answers each of them
    latency_repeats: int = Field(40, ge=5)
    seed: int = 0


class Evaluate(Frozen):
    bootstrap: int = 2000
    confidence: float = 0.95
    bins: int = 10  # of the reliability plot
    latency_repeats: int = 20
    tolerance: float = Field(5.0, gt=0)  # % of a length within which it counts as measured well
    seed: int = 0


class Significance(Frozen):
    bootstrap: int = 2000
    alpha: float = 0.05
    seed: int = 0


class Explain(Frozen):
    per_class: int = 1  # sequences drawn per class
    measured: int = 60  # test sequences on which map against anatomy is measured
    mistakes: int = 6  # misclassified sequences drawn frame by frame
    worst: int = 10  # of a network that segments: answers drawn with the least overlap, and with the largest error
    seed: int = 0


class TaskSettings(Frozen):
    phantom: Phantom
    extract: Extract
    preprocess: Preprocess
    split: Split
    validation: Validate = Field(alias="validate")
    train: Train
    networks: dict[str, dict[str, Any]] = {}  # options of each variant's network
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    significance: Significance = Significance()
    explain: Explain = Explain()
    register_: Register = Field(alias="register")
    promote: Promote = Promote()
    retrain: Retrain = Retrain()
    drift: Drift = Drift()


class TaskEntry(Frozen):
    drop: str
    variant: str  # the main one
    network: str  # its file in fetalflow/models/<task>/
    base: str  # what it builds on, a file or folder of fetalflow/models/; or the same file again
    rivals: tuple[str, ...] = ()  # the variants of `ablations`, in the order of the report


class Machines(Frozen):
    """Where the work runs (docs/scale.md): no stage depends on it, so another machine makes no result stale."""

    scheduler: str = ""  # a Dask scheduler (tcp://host:8786) for extract and preprocess; empty: this machine alone
    processes: int = Field(1, ge=1)  # of one training, on each node; with GPUs one for each
    nodes: int = Field(1, ge=1)  # machines of one training

    @property
    def trainers(self) -> int:
        return self.processes * self.nodes


class Ablation(Frozen):
    task: str
    variant: str
    network: str
    base: str


class Settings(Frozen):
    """The whole of `params.yaml`. `blocks` holds the per-task settings by task name."""

    tasks: dict[str, TaskEntry]
    phantoms: tuple[str, ...]
    ablations: dict[str, Ablation] = {}
    machines: Machines = Machines()
    profiles: dict[str, dict[str, Any]] = {}
    blocks: dict[str, TaskSettings]

    @model_validator(mode="before")
    @classmethod
    def _gather_blocks(cls, raw: dict[str, Any]) -> dict[str, Any]:
        tasks = raw.get("tasks") or {}
        return {k: v for k, v in raw.items() if k not in tasks} | {"blocks": {t: raw[t] for t in tasks if t in raw}}

    @model_validator(mode="after")
    def _every_task_has_a_block(self) -> "Settings":
        if missing := set(self.tasks) - set(self.blocks):
            raise ValueError(f"tasks without a block of settings: {sorted(missing)}")
        return self

    @model_validator(mode="after")
    def _every_ablation_is_a_rival(self) -> "Settings":
        # Twice, because a DVC stage can depend on `tasks.planes` and not on a part of `ablations`.
        for task, entry in self.tasks.items():
            trained = sorted(a.variant for a in self.ablations.values() if a.task == task)
            if trained != sorted(entry.rivals):
                raise ValueError(f"tasks.{task}.rivals are {sorted(entry.rivals)}, its `ablations` are {trained}")
        return self

    def variants(self, task: str) -> tuple[str, ...]:
        """The main variant of a task first, then its rivals."""
        return (self.tasks[task].variant, *self.tasks[task].rivals)

    def network(self, task: str, variant: str) -> str:
        """The network's file behind a variant. Raises InputError naming the variants."""
        entries = [self.tasks[task], *(a for a in self.ablations.values() if a.task == task)]
        networks = {entry.variant: entry.network for entry in entries}
        if variant not in networks:
            raise InputError(f"{task} has no variant {variant!r} in params.yaml; it has: {', '.join(networks)}.")
        return networks[variant]


def load_settings(path: Path | str = "params.yaml") -> Settings:
    """Read and check `params.yaml`.

    Raises InputError when it is not there, or naming every wrong key.
    """
    if not Path(path).is_file():
        raise InputError(f"{Path(path).resolve()} is not there: run this in the checkout or in a workspace of it.")
    try:
        return Settings.model_validate(yaml.safe_load(Path(path).read_text()))
    except ValidationError as error:
        lines = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"{path} does not fit its contract:\n{lines}") from None
