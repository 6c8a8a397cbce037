"""`params.yaml` as frozen pydantic models, one block per stage. An unknown key is an error."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from fetalflow.errors import InputError
from fetalflow.settings.earlier import renewed
from fetalflow.settings.operations import Drift, Frozen, Promote, Register, Retrain


class Phantom(Frozen):
    """The synthetic hospital (docs/architecture.md)."""

    seed: int = 7  # of patients, anatomy and movement
    patients: int = Field(40, ge=2)
    sequences: dict[str, int]  # sequences to record for each label, over all patients
    height: int = 240  # px, of the recorded video
    width: int = 320  # px
    min_frames: int = 20  # frames of the shortest cine
    max_frames: int = 32  # frames of the longest cine


class Extract(Frozen):
    """From cines to frames and sequences (paper III-A)."""

    labels: tuple[str, ...] | None = None  # labels to use; None: every label of the drop
    rest: str | None = None  # label for all other views, if there is one; such a frame is never a sweep's best frame
    frames: int = Field(10, ge=1)  # frames of a sequence, N
    every: int = Field(1, ge=1)  # 1: consecutive frames; k: every k-th frame, counted at the rate `fps`
    stride: int = Field(10, ge=1)  # frames, of those that `every` takes, from one sequence start to the next
    fps: float | None = None  # frames per second after resampling; None: the rate of each cine
    cut_threshold: float = 0.3  # difference of two pictures, 0-1, that is a scene cut; unrelated ones differ by 0.7
    mask_overlays: bool = True  # blacken text and marks that the machine draws over the image
    mask_sector: bool = True  # blacken everything outside the ultrasound sector
    max_bytes: int = 2_000_000_000  # of one cine file; a larger one goes to quarantine
    max_frames: int = 20_000  # of one cine
    max_pixels: int = 16_000_000  # of one frame
    min_agreement: float = 0.8  # share of the frames, 0-1, on which two annotators must agree
    quarantine_share: float = 0.2  # the stage stops when a larger share of the rows, 0-1, is in quarantine
    workers: int = -1  # processes (joblib); -1: one per core

    @property
    def sequence_in_words(self) -> str:
        skipping = "" if self.every == 1 else f" (one in {self.every})"
        return f"{self.frames} consecutive frames{skipping}"


class Preprocess(Frozen):
    """From frames to the input of the network (paper III-B)."""

    size: int = Field(300, ge=32)  # px, height and width


class Split(Frozen):
    """How the sequences are divided into train, validation and test."""

    # grouped: by patient. site: by site, each site is tested by networks that were not trained on it. official: the
    # column `part` of the drop. paper: by sequence, in the numbers of FetalMovNet's Table 1. random: by sequence.
    kind: Literal["grouped", "site", "paper", "official", "random"] = "grouped"
    test: float = Field(0.3, gt=0, lt=1)  # share of the patients
    validation: float = Field(0.15, gt=0, lt=1)  # share of the patients that are not in the test part
    folds: int = Field(1, ge=1)  # only for grouped. 1: one split; K: K-fold cross-validation
    seed: int = 0  # of the random choice of patients or sequences


class Validate(Frozen):
    """Limits of the quality checks."""

    min_fps: float = 5  # frames per second
    max_fps: float = 120
    min_pixels: int = 96  # px, shorter side of the recorded frame
    max_pixels: int = 4096  # px, longer side
    min_mm_per_px: float = 0.02  # of the recorded frame
    max_mm_per_px: float = 1.5
    max_blank_share: float = 0.0  # share of a sequence's frames that are blank, 0-1
    max_frozen_share: float = 0.5  # share of neighbouring frames that are identical, 0-1
    min_mean_intensity: float = 4  # grey level, 0-255
    max_mean_intensity: float = 200
    min_mask_share: float = 0.0005  # share of the image that the mask covers, 0-1, mean over a sequence's frames
    max_mask_share: float = 0.95
    max_quality_z: float = 6  # robust z-score of NIQE and BRISQUE within the drop
    min_mostly: float = 0.98  # share of the sequences, 0-1, that must keep each limit of image quality and masks
    near_duplicate_bits: int = 2  # pictures whose 64-bit perceptual hashes differ in at most so many bits may be copies
    max_class_ratio: float = 30  # sequences of the largest class divided by those of the smallest
    min_patients_per_class: int = 3
    warn_only: tuple[str, ...] = ()  # names of checks that warn instead of stopping the run


class Train(Frozen):
    """Table 2 of the paper; docs/ml-lead/networks.md says how its gaps are read."""

    batch: int = Field(4, ge=2)  # sequences per step; batch normalisation needs at least two
    epochs: int = Field(50, ge=1)
    patience: int = Field(10, ge=1)  # early stopping: epochs without a lower validation loss
    optimizer: Literal["rmsprop", "adam", "adamw"] = "rmsprop"
    learning_rate: float = 1e-3  # at the start
    weight_decay: float = Field(0.0, ge=0)  # only for adamw
    frozen_epochs: int = Field(0, ge=0)  # first epochs in which pretrained weights are not trained
    pretrained_rate: float = Field(1.0, ge=0)  # learning rate of pretrained weights afterwards, as a factor
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema: float = Field(0.0, ge=0, lt=1)  # decay per step of the moving average of the weights; 0: no average
    schedule: Literal["constant", "cosine"] = "constant"  # cosine: the rate falls to nearly 0 at the last epoch
    class_weights: bool = False  # weight the loss by the inverse frequency of each label
    augment: bool = False  # mirror, turn, zoom, shift, gain; not in the paper, helps when there are few patients
    device_augment: bool = False  # grey curve, gain, resolution, persistence, noise of other devices: for new sites
    # Simulated drift of the probe: largest shift over a sequence, as a share of the frame's side (the phantom drifts up
    # to 0.03). With more, the network relies less on drift, but frames are blurred more. 0: off.
    drift_augment: float = Field(0.0, ge=0, le=0.5)
    # Weight of the CORAL loss, which makes the features of all sites alike. Too large a weight makes the features of
    # different labels alike as well. 0: off.
    align: float = Field(0.0, ge=0)
    false_alarms: float = Field(0.05, gt=0, lt=1)  # share of validation sequences flagged as unlike the training data
    start: str = ""  # folder of a model package whose weights the main variant starts from; empty: random weights
    seeds: tuple[int, ...] = (0,)  # one training for each seed, and for each fold
    # Processes that read sequences. More of them keep a fast GPU busy but need memory. auto: 4 with a GPU, else 0.
    loader_workers: int | Literal["auto"] = "auto"
    # Keep all sequences in device memory, so that no step waits for the disk. auto: on a GPU, if they need at most half
    # of its memory.
    resident: bool | Literal["auto"] = "auto"
    compile: bool = False  # torch.compile: minutes at the start, then faster steps; may pay in long trainings on a GPU
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # auto: 32 on a CPU, mixed precision on a GPU. bf16-mixed is faster on a CPU that supports it, but less exact.
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"

    @model_validator(mode="after")
    def _only_adamw_decays(self) -> "Train":
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(f"weight_decay {self.weight_decay} has no effect with {self.optimizer}; use adamw, or 0")
        return self

    @model_validator(mode="after")
    def _compiled_networks_have_no_hooks(self) -> "Train":
        if self.compile and self.align:
            raise ValueError(f"align {self.align} needs a hook, which compiled code does not call; use only one")
        return self


class Export(Frozen):
    """Export of the main network, and the comparison of the formats (docs/operator/export.md)."""

    engines: tuple[Literal["onnx", "int8", "openvino"], ...] = ("onnx", "int8", "openvino")  # besides torch
    calibration: int = Field(64, ge=1, le=10_000)  # at most so many training sequences calibrate the int8 model
    test_sequences: int = Field(500, ge=1)  # at most so many test sequences are answered by every engine
    latency_repeats: int = Field(40, ge=5)  # timed answers per engine, and per variant with torch
    seed: int = 0  # of the choice of sequences


class Evaluate(Frozen):
    """Metrics on the test part."""

    bootstrap: int = 2000  # bootstrap samples of patients
    confidence: float = 0.95  # level of the confidence intervals, 0-1
    bins: int = 10  # of the reliability plot and the calibration error
    latency_repeats: int = 20  # timed answers per model where `fetalflow promote` compares two of them
    tolerance: float = Field(5.0, gt=0)  # %; a length with a smaller error counts as measured well
    seed: int = 0  # of the bootstrap


class Significance(Frozen):
    """Tests of the main network against each rival."""

    alpha: float = 0.05  # significance level, after Holm's correction
    seed: int = 0  # of the Wilcoxon test over more than 14 classes


class Explain(Frozen):
    """Pictures that explain the main network."""

    per_class: int = 1  # sequences shown for each class
    measured: int = 60  # test sequences on which the saliency maps are compared with the anatomy
    mistakes: int = 6  # misclassified sequences that are shown frame by frame
    worst: int = 10  # for networks that segment: how many results with the lowest Dice, and with the largest error
    seed: int = 0  # of the choice of sequences


class Variant(Frozen):
    """One network that a task trains: the main variant, or a rival that it is compared with."""

    task: str
    variant: str  # name in files, tables and the report
    network: str  # name of its file in fetalflow/models/<task>/
    base: str  # file or folder of fetalflow/models/ that the network's file imports; without one, that file again
    options: dict[str, Any] = {}  # arguments of the network's `build`


class TaskEntry(Variant):
    """The main variant of a task, and its drop."""

    drop: str  # folder with the cines and their table


class TaskSettings(Frozen):
    phantom: Phantom
    extract: Extract
    preprocess: Preprocess
    split: Split
    validation: Validate = Field(alias="validate")
    train: Train
    rivals: dict[str, Variant] = {}  # by `TASK-VARIANT`, in the order of the report
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    significance: Significance = Significance()
    explain: Explain = Explain()
    register_: Register = Field(alias="register")
    promote: Promote = Promote()
    retrain: Retrain = Retrain()
    drift: Drift = Drift()


class Machines(Frozen):
    """Where the work runs (docs/operator/scale.md). No stage depends on it: a change makes no result out of date."""

    scheduler: str = ""  # Dask scheduler for extract and preprocess, such as tcp://host:8786; empty: this machine only
    processes: int = Field(1, ge=1)  # processes of one training on each node; with GPUs, one per GPU
    nodes: int = Field(1, ge=1)  # nodes (machines) of one training
    # Trainings of a task at the same time on this machine. auto: 2 if they are small and run on a CPU, else 1.
    trainings: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"

    @property
    def trainers(self) -> int:
        return self.processes * self.nodes


class Settings(Frozen):
    """The whole of `params.yaml`. `blocks` holds the per-task settings by task name."""

    tasks: dict[str, TaskEntry]
    phantoms: tuple[str, ...]  # tasks whose drop the synthetic hospital makes
    ablations: dict[str, Variant] = {}  # the rivals of all tasks together: dvc.yaml needs them in one mapping
    machines: Machines = Machines()
    profiles: dict[str, dict[str, Any]] = {}  # by name: changes to the other settings
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
    def _ablations_repeat_the_rivals(self) -> "Settings":
        rivals = {name: rival for block in self.blocks.values() for name, rival in block.rivals.items()}
        if self.ablations != rivals:
            differing = sorted(n for n in {*rivals, *self.ablations} if rivals.get(n) != self.ablations.get(n))
            raise ValueError(f"`ablations` must repeat the `rivals` of every task; they differ in {differing}")
        return self

    @model_validator(mode="after")
    def _variant_names_fit(self) -> "Settings":
        for task, block in self.blocks.items():
            wrong = [n for n, rival in block.rivals.items() if (n, rival.task) != (f"{task}-{rival.variant}", task)]
            if wrong:
                raise ValueError(f"{task}.rivals: expected the names {task}-VARIANT and `task: {task}`, found {wrong}")
            if self.tasks[task].task != task:
                raise ValueError(f"tasks.{task}.task is {self.tasks[task].task!r}, expected {task!r}")
            if self.tasks[task].variant in [rival.variant for rival in block.rivals.values()]:
                raise ValueError(f"{task} has {self.tasks[task].variant!r} as its main variant and among its rivals")
        return self

    def block(self, task: str) -> TaskSettings:
        """The settings of a task. Raises InputError naming the tasks."""
        if task not in self.blocks:
            raise InputError(f"params.yaml has no task {task!r}. Its tasks: {', '.join(self.blocks)}.")
        return self.blocks[task]

    def variants(self, task: str) -> tuple[str, ...]:
        """The names of a task's variants: the main one first, then its rivals."""
        return tuple(each.variant for each in self._all(task))

    def variant(self, task: str, name: str) -> Variant:
        """The variant called `name`. Raises InputError naming the variants of the task."""
        for each in self._all(task):
            if each.variant == name:
                return each
        known = ", ".join(self.variants(task))
        raise InputError(f"{task} has no variant {name!r} in params.yaml; it has: {known}.")

    def _all(self, task: str) -> tuple[Variant, ...]:
        return (self.tasks[task], *self.blocks[task].rivals.values())


def load_settings(path: Path | str = "params.yaml") -> Settings:
    """Read and check `params.yaml`.

    Raises InputError when the file does not exist, or with a list of the wrong keys.
    """
    if not Path(path).is_file():
        raise InputError(f"{Path(path).resolve()} does not exist: run this in the checkout or in a workspace.")
    try:
        params = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML in UTF-8: {' '.join(str(error).split())}") from None
    return checked(params, path)


def checked(params: dict[str, Any], path: Path | str) -> Settings:
    """`params` as settings. Raises InputError with a list of the wrong keys; `path` is only for the message."""
    try:
        return Settings.model_validate(renewed(params))
    except ValidationError as error:
        places = (".".join(map(str, e["loc"])).removeprefix("blocks.") for e in error.errors())
        lines = "\n".join(f"  {place}: {e['msg']}" for place, e in zip(places, error.errors(), strict=True))
        raise InputError(f"{path} has wrong settings:\n{lines}") from None
    except (AttributeError, KeyError, TypeError):  # a value stands where a block of settings is expected
        raise InputError(f"{path} has not the form of the checkout's params.yaml. Compare the two.") from None
