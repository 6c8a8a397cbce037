"""The blocks of `params.yaml` that each task has, one for each stage. Every number has its bounds."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from fetalflow.settings.operations import MAX_SEED, Frozen


class Ranges(Frozen):
    """A block with ranges: `min_x` may not lie above `max_x`."""

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> "Ranges":
        for name in type(self).model_fields:
            other = name.replace("min_", "max_", 1)
            if name.startswith("min_") and hasattr(self, other) and getattr(self, name) > getattr(self, other):
                raise ValueError(f"{name} {getattr(self, name)} lies above {other} {getattr(self, other)}")
        return self


class Phantom(Ranges):
    """The synthetic hospital (docs/architecture.md)."""

    seed: int = Field(7, ge=0, le=MAX_SEED)  # of patients, anatomy and movement
    patients: int = Field(40, ge=2, le=100_000)
    sequences: dict[
        str, Annotated[int, Field(ge=1, le=1_000_000)]
    ]  # sequences to record for each label, over all patients
    # paper: the labelled part is in view, as in the paper; moving: several parts, and only movement names the label
    scene: Literal["paper", "moving"] = "paper"
    height: int = Field(240, ge=64, le=4096)  # px, of the recorded video
    width: int = Field(320, ge=64, le=4096)  # px
    min_frames: int = Field(20, ge=1, le=10_000)  # frames of the shortest cine
    max_frames: int = Field(32, ge=1, le=10_000)  # frames of the longest cine

    @field_validator("sequences", mode="before")
    @classmethod
    def _null_removes_a_label(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class Extract(Frozen):
    """From cines to frames and sequences (paper III-A)."""

    # labels to use; None: every label of the drop
    labels: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    # Regular expression that finds the patient in a file's name where the drop names none: its groups, or all it finds.
    # With a "/" in it, it is compared with the whole path. None: no patient is taken out of a name.
    patient_pattern: str | None = None
    # Patients of one site whose names are nearly equal, such as P001 and p1. stop: a person must say which they are;
    # same: each group is one patient; different: they are different; or the name that each spelling stands for.
    near_patients: Literal["stop", "same", "different"] | dict[str, str] = "stop"
    rest: str | None = None  # label for all other views, if there is one; such a frame is never a sweep's best frame
    frames: int = Field(10, ge=1, le=10_000)  # frames of a sequence, N
    every: int = Field(1, ge=1, le=10_000)  # 1: consecutive frames; k: every k-th frame, counted at the rate `fps`
    stride: int = Field(
        10, ge=1, le=1_000_000
    )  # frames, of those that `every` takes, from one sequence start to the next
    fps: float | None = Field(None, gt=0, le=1000)  # frames per second after resampling; None: the rate of each cine
    cut_threshold: float = Field(
        0.3, gt=0, le=1
    )  # difference of two pictures, 0-1, that is a scene cut; unrelated ones differ by 0.7
    mask_overlays: bool = True  # blacken text and marks that the machine draws over the image
    mask_sector: bool = True  # blacken everything outside the ultrasound sector
    max_bytes: int = Field(2_000_000_000, ge=1, le=10**15)  # of one cine file; a larger one goes to quarantine
    max_frames: int = Field(20_000, ge=1, le=10**9)  # of one cine
    max_pixels: int = Field(16_000_000, ge=1, le=10**9)  # of one frame
    max_cine_pixels: int = Field(
        16_000_000_000, ge=1, le=10**15
    )  # of all frames of a cine; each takes a byte on the disk
    min_agreement: float = Field(0.8, ge=0, le=1)  # share of the frames, 0-1, on which two annotators must agree
    quarantine_share: float = Field(
        0.2, ge=0, le=1
    )  # the stage stops when a larger share of the rows, 0-1, is in quarantine
    workers: int = Field(-1, ge=-1, le=1024)  # processes (joblib); -1: one per core

    @field_validator("patient_pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error}); a good one is 'P(\\d+)'") from None
        return pattern

    @property
    def sequence_in_words(self) -> str:
        skipping = "" if self.every == 1 else f" (one in {self.every})"
        return f"{self.frames} consecutive frames{skipping}"


class Preprocess(Frozen):
    """From frames to the input of the network (paper III-B)."""

    size: int = Field(300, ge=32, le=4096)  # px, height and width


class Split(Frozen):
    """How the sequences are divided into train, validation and test."""

    # grouped: by patient. site: by site, each site is tested by networks that were not trained on it. official: the
    # column `part` of the drop. paper: by sequence, in the numbers of FetalMovNet's Table 1. random: by sequence.
    kind: Literal["grouped", "site", "paper", "official", "random"] = "grouped"
    test: float = Field(0.3, gt=0, lt=1)  # share of the patients
    validation: float = Field(0.15, gt=0, lt=1)  # share of the patients that are not in the test part
    folds: int = Field(1, ge=1, le=1000)  # only for grouped. 1: one split; K: K-fold cross-validation
    seed: int = Field(0, ge=0, le=MAX_SEED)  # of the random choice of patients or sequences
    # Whether a grouped split may go on although the drop does not name the patients. Each file then counts as a
    # patient, one woman may be in training and test, and every metric may be too good.
    unknown_patients: bool = False


class Validate(Ranges):
    """Limits of the quality checks."""

    min_fps: float = Field(5, gt=0, le=1000)  # frames/s; the rows of a cine outside go to quarantine
    max_fps: float = Field(120, gt=0, le=100_000)
    min_pixels: int = Field(96, ge=1, le=100_000)  # px, shorter side of the recorded frame
    max_pixels: int = Field(4096, ge=1, le=100_000)  # px, longer side
    min_mm_per_px: float = Field(0.02, gt=0, le=100)  # of the recorded frame
    max_mm_per_px: float = Field(1.5, gt=0, le=100)
    max_blank_share: float = Field(0.0, ge=0, le=1)  # share of a sequence's frames that are blank, 0-1
    max_frozen_share: float = Field(0.5, ge=0, le=1)  # share of neighbouring frames that are identical, 0-1
    min_mean_intensity: float = Field(4, ge=0, le=255)  # grey level, 0-255
    max_mean_intensity: float = Field(200, ge=0, le=255)
    min_mask_share: float = Field(
        0.0005, ge=0, le=1
    )  # share of the image that the mask covers, 0-1, mean over a sequence's frames
    max_mask_share: float = Field(0.95, ge=0, le=1)
    max_quality_z: float = Field(6, gt=0, le=10**6)  # robust z-score of NIQE and BRISQUE within the drop
    min_mostly: float = Field(
        0.98, ge=0, le=1
    )  # share of the sequences, 0-1, that must keep each limit of image quality and masks
    near_duplicate_bits: int = Field(
        2, ge=0, le=64
    )  # pictures whose 64-bit perceptual hashes differ in at most so many bits may be copies
    max_class_ratio: float = Field(
        30, ge=1, le=10**9
    )  # sequences of the largest class divided by those of the smallest
    min_patients_per_class: int = Field(3, ge=1, le=10**6)
    max_patients_per_cine: float = Field(0.9, gt=0, le=1)  # above: perhaps no patients, but examinations or files
    warn_only: tuple[str, ...] = ()  # names of checks that warn instead of stopping the run

    @property
    def rates(self) -> tuple[float, float]:
        return self.min_fps, self.max_fps


class Pretrain(Frozen):
    """Pretraining of the main network without labels (docs/ml-lead/pretraining.md)."""

    # Cines and stills without labels: a whole path, or one in the workspace. Empty: there is no pretraining.
    folder: str = ""
    licence: str = Field("", max_length=300)  # of these files; the card of a model that started from them states it
    # Whether files that name no patient may be used. Nobody can tell then whether a test patient is among them.
    unknown_patients: bool = False
    clips: int = Field(8, ge=1, le=10_000)  # at most so many sequences of a file are used
    batch: int = Field(32, ge=4, le=100_000)  # files per step, with two views of each
    epochs: int = Field(100, ge=1, le=1_000_000)  # an epoch shows two views of each file
    learning_rate: float = Field(1e-3, gt=0, le=10)  # at the start; it falls to nearly 0 at the last epoch
    seed: int = Field(0, ge=0, le=MAX_SEED)


class Train(Frozen):
    """Table 2 of the paper; docs/ml-lead/networks.md says how its gaps are read."""

    batch: int = Field(4, ge=2, le=100_000)  # sequences per step; batch normalisation needs at least two
    epochs: int = Field(50, ge=1, le=1_000_000)
    patience: int = Field(10, ge=1, le=1_000_000)  # early stopping: epochs without a lower validation loss
    # The weights that a training which ran to its last epoch keeps: those of this epoch, or of the one with the lowest
    # validation loss. The loss of few validation patients chooses by chance (docs/ml-lead/networks.md). A training that
    # stopped early always keeps the epoch with the lowest loss.
    keep: Literal["last", "lowest"] = "last"
    optimizer: Literal["rmsprop", "adam", "adamw"] = "rmsprop"
    learning_rate: float = Field(1e-3, gt=0, le=10)  # at the start
    weight_decay: float = Field(0.0, ge=0, le=10)  # only for adamw
    frozen_epochs: int = Field(0, ge=0, le=1_000_000)  # first epochs in which pretrained weights are not trained
    pretrained_rate: float = Field(1.0, ge=0, le=100)  # learning rate of pretrained weights afterwards, as a factor
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema: float = Field(0.0, ge=0, lt=1)  # decay per step of the moving average of the weights; 0: no average
    schedule: Literal["constant", "cosine"] = "constant"  # cosine: the rate falls to nearly 0 at the last epoch
    class_weights: bool = False  # weight the loss by the inverse frequency of each label
    augment: bool = False  # mirror, turn, zoom, shift, gain; not in the paper, helps when there are few patients
    # Whether `augment` and `distil` use mirror images, left for right. auto: unless a label names a side (`left arm`).
    mirror: bool | Literal["auto"] = "auto"
    device_augment: bool = False  # grey curve, gain, resolution, persistence, noise of other devices: for new sites
    # Simulated drift of the probe: largest shift over a sequence, as a share of the frame's side (the phantom drifts up
    # to 0.03). With more, the network relies less on drift, but frames are blurred more. 0: off.
    drift_augment: float = Field(0.0, ge=0, le=0.5)
    # Weight of the CORAL loss, which makes the features of all sites alike. Too large a weight makes the features of
    # different labels alike as well. 0: off.
    align: float = Field(0.0, ge=0, le=10**6)
    # Both only for networks that draw masks; they make a step faster (docs/ml-lead/biometry.md).
    without_bands: bool = False  # train on frames without the black bands that fitting adds beside them
    small_epochs: int = Field(0, ge=0, le=1_000_000)  # first epochs, on frames with sides of 3/4
    false_alarms: float = Field(0.05, gt=0, lt=1)  # share of validation sequences flagged as unlike the training data
    # Number of networks, its teachers, whose mean answer the network learns besides the labels; 0: none. Each of them
    # learns from the training patients without two of as many groups, so that a training takes `distil` - 1 times as
    # long (docs/ml-lead/networks.md).
    distil: int = Field(0, ge=0, le=100)
    distil_share: float = Field(0.5, gt=0, le=1)  # share of their answer in what is learned; the rest is the label
    start: str = ""  # folder of a model package whose weights the main variant starts from; empty: random weights
    seeds: tuple[Annotated[int, Field(ge=0, le=MAX_SEED)], ...] = Field(
        (0,), min_length=1
    )  # one training for each seed, and for each fold
    # Processes that read sequences. More of them keep a fast GPU busy but need memory. auto: 4 with a GPU, else 0.
    loader_workers: Annotated[int, Field(ge=0, le=1024)] | Literal["auto"] = "auto"
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

    @model_validator(mode="after")
    def _teachers_see_enough(self) -> "Train":
        if 0 < self.distil < 4:
            raise ValueError(
                f"distil {self.distil} is too few: each of these networks leaves out two groups of the patients, and "
                "would learn from less than half of them; use 4 or more, or 0"
            )
        return self


class Export(Frozen):
    """Export of the main network, and the comparison of the formats (docs/operator/export.md)."""

    engines: tuple[Literal["onnx", "int8", "openvino"], ...] = ("onnx", "int8", "openvino")  # besides torch
    calibration: int = Field(64, ge=1, le=10_000)  # at most so many training sequences calibrate the int8 model
    sequences: int = Field(500, ge=1, le=10**9)  # at most so many of validation patients judge the engines
    test_sequences: int = Field(500, ge=1, le=10**9)  # at most so many of test patients give the figures of each engine
    latency_repeats: int = Field(40, ge=5, le=1_000_000)  # timed answers per engine, and per variant with torch
    seed: int = Field(0, ge=0, le=MAX_SEED)  # of the choice of sequences


class Evaluate(Frozen):
    """Metrics on the test part."""

    bootstrap: int = Field(2000, ge=1, le=10_000_000)  # bootstrap samples of patients
    confidence: float = Field(0.95, gt=0, lt=1)  # level of the confidence intervals, 0-1
    bins: int = Field(10, ge=1, le=10_000)  # of the reliability plot and the calibration error
    # Probability with which a set of labels and an interval of mm are to hold the truth (docs/ml-lead/certainty.md);
    # n validation patients allow at most n / (n + 1), which then is used and stated.
    level: float = Field(0.9, ge=0.5, le=0.999)
    latency_repeats: int = Field(
        20, ge=1, le=1_000_000
    )  # timed answers per model where `fetalflow promote` compares two of them
    tolerance: float = Field(5.0, gt=0, le=100)  # %; a length with a smaller error counts as measured well
    seed: int = Field(0, ge=0, le=MAX_SEED)  # of the bootstrap


class Significance(Frozen):
    """Tests of the main network against each rival."""

    alpha: float = Field(0.05, gt=0, lt=1)  # significance level, after Holm's correction
    seed: int = Field(0, ge=0, le=MAX_SEED)  # of the Wilcoxon test over more than 14 classes


class Explain(Frozen):
    """Pictures that explain the main network."""

    per_class: int = Field(1, ge=0, le=1000)  # sequences shown for each class
    measured: int = Field(60, ge=0, le=10**9)  # test sequences on which the saliency maps are compared with the anatomy
    mistakes: int = Field(6, ge=0, le=1000)  # misclassified sequences that are shown frame by frame
    worst: int = Field(
        10, ge=0, le=1000
    )  # for networks that segment: how many results with the lowest Dice, and with the largest error
    seed: int = Field(0, ge=0, le=MAX_SEED)  # of the choice of sequences
