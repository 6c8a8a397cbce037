"""Blocks of `params.yaml` for the work around the stages: new drops, registration, promotion, drift."""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

MAX_SEED = 2**32 - 1  # of NumPy


class Frozen(BaseModel):
    """Settings that nobody can change after they are read; an unknown key is an error. Every number has bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic takes true as 1: `epochs: true` would train for one epoch."""
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        kinds = _kinds(cls.model_fields[info.field_name].annotation)
        if kinds & {int, float} and bool not in kinds and any(isinstance(each, bool) for each in inner):
            raise ValueError("must be a number")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """A type and all types within it: int and str for `dict[str, int | None]`."""
    return {annotation}.union(*map(_kinds, get_args(annotation)))


class Register(Frozen):
    """Names in MLflow."""

    experiment: str = "movement"  # experiment that holds the runs of the task
    model: str = "fetalmovnet"  # registered model; a file without this key is of the movement task and before 2026-12
    alias: str = "challenger"  # alias that the newest version gets


class Promote(Frozen):
    """When the challenger replaces the champion (docs/ml-lead/promotion.md)."""

    champion: str = "champion"  # alias of the model in use; `register.alias` is the alias of the challenger
    # Metric that decides. measured_well: share of the test sequences whose lengths are within `evaluate.tolerance` of
    # the truth; where the sector cuts the structure, giving no length is correct.
    metric: Literal["mean_class_f1", "accuracy", "macro_recall", "measured_well"] = "mean_class_f1"
    # superiority: the metric must be significantly better than the champion's. non_inferiority: it must be shown that
    # the metric is worse by less than `margin`. `alpha` is the significance level of both.
    aim: Literal["superiority", "non_inferiority"] = "superiority"
    margin: float = Field(0.03, gt=0, lt=1)  # loss of the metric that non_inferiority must rule out
    class_margin: float = Field(0.10, gt=0, lt=1)  # accepted loss of a class's recall
    site_margin: float = Field(0.10, gt=0, lt=1)  # accepted loss of accuracy at a site
    # shown: for every class and site, a loss beyond its margin must be ruled out, which takes many patients.
    # not_refuted: a class or site fails only when a loss beyond its margin is significant.
    guards: Literal["shown", "not_refuted"] = "shown"
    alpha: float = Field(0.05, gt=0, lt=0.5)  # significance level, one-sided, after Holm's correction
    min_patients: int = Field(
        5, ge=3, le=10**6
    )  # a class or site with fewer test patients is not judged; the page lists it
    max_ece: float = Field(0.15, gt=0, le=1)  # expected calibration error of the challenger
    max_false_alarms: float = Field(0.15, gt=0, le=1)  # share of test sequences flagged as unlike the training data
    # ms of one sequence on two idle cores (AMD EPYC). It decides only on a first champion, by the ratio to a reference
    # network (fetalflow/promotion/speed.py); else it is a warning.
    max_latency_ms: float = Field(500, gt=0, le=10**9)
    max_latency_ratio: float = Field(
        1.5, gt=0, le=10**6
    )  # median time divided by the champion's, both in the same process
    max_size_mb: float = Field(1000, gt=0, le=10**9)  # size of the model package, MB (10^6 bytes)
    clean_tree: bool = True  # the code that trained the challenger must be committed in git
    approval: bool = True  # a person must approve the promotion
    bootstrap: int = Field(
        2000, ge=100, le=10_000_000
    )  # draws for the calibration error that a calibrated model has by chance
    seed: int = Field(0, ge=0, le=MAX_SEED)  # of the bootstrap


class Retrain(Frozen):
    """How new drops are taken from the inbox (docs/data-engineer/arrivals.md)."""

    inbox: str = ""  # folder or URL (s3://...) with one folder per drop; empty: no drops are taken
    store: str = "arrivals"  # folder of the workspace that keeps every drop that was taken, by task
    marker: str = "COMPLETE"  # file that the sender writes last: the drop is complete
    settle: float = Field(
        900, ge=0, le=10**8
    )  # s; a drop without the marker is complete when it did not change for this time
    warm: bool = False  # True: the main variant starts from the champion, else from the challenger; rivals never do
    # True: no drop is taken without a pseudonym key. None and False: a new store may be without one. With a key all
    # drops are de-identified; a store that was made with a key takes no drop without it, whatever is set here.
    deidentify: bool | None = None


class Requests(Frozen):
    """What people may ask for in MLflow (docs/ml-lead/promotion.md)."""

    # When a person sets the champion's alias in MLflow, it is put back and her version is judged. put_back: then she
    # approves it as any other. keep: it becomes champion at once, where every rule passes and her account is recorded.
    champion_by_hand: Literal["put_back", "keep"] = "put_back"
    # Accounts of MLflow that may approve; empty: all that may write to the model, except for that of the workers.
    approvers: tuple[str, ...] = ()


class Alerts(Frozen):
    """When an alert is sent (docs/operator/alerts.md). Where alerts go is no setting here, because it is a secret."""

    quarantine: float = Field(0.2, gt=0, le=1)  # share of the rows that are in quarantine
    silent_hours: float = Field(36, gt=0, le=10_000)  # since the last look into the inbox


class Clean(Frozen):
    """What `fetalflow clean` keeps (docs/operator/growth.md). Days count from the last change."""

    # Newest versions of the model that stay, besides those that have an alias or ever were champion.
    versions: int = Field(10, ge=1, le=10**6)
    trash_days: int = Field(30, ge=1, le=36_500)  # what was deleted in MLflow can be restored for so long
    cache_days: int = Field(14, ge=1, le=36_500)  # objects of DVC's cache that no commit, branch or data set needs
    frames_days: int = Field(7, ge=1, le=36_500)  # decoded cines that the drop does not have any more
    checkpoints_days: int = Field(14, ge=1, le=36_500)  # of trainings that did not go on
    exports_days: int = Field(14, ge=1, le=36_500)  # files of networks that the settings do not name any more
    runs_days: int = Field(90, ge=1, le=36_500)  # finished flow runs in Prefect, with their logs and tables
    scratch_days: int = Field(7, ge=1, le=36_500)  # temporary folders and tracebacks of killed commands


class Drift(Frozen):
    """When a new drop counts as different from the training data."""

    alpha: float = Field(0.05, gt=0, lt=0.5)  # significance level, after Holm's correction over all tests of a drop
    # A smaller difference is not reported as drift, even when it is significant.
    min_effect: float = Field(0.5, gt=0, le=1000)  # Wasserstein distance, in standard deviations of the training data
    min_mix: float = Field(0.2, gt=0, lt=1)  # class mix: share of the sequences that would need another label
    min_patients: int = Field(5, ge=3, le=10**6)  # in the drop and before it; with fewer no test is made
    permutations: int = Field(1999, ge=99, le=10_000_000)  # random exchanges of patients in each test
    seed: int = Field(0, ge=0, le=MAX_SEED)  # of the permutations
