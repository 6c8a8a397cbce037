"""What happens around the stages: new data come in, models are registered and promoted; blocks of `params.yaml`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Register(Frozen):
    experiment: str = "movement"
    model: str = "fetalmovnet"
    alias: str = "challenger"


class Promote(Frozen):
    """When a challenger takes the champion's place (docs/promotion.md)."""

    champion: str = "champion"  # alias of the model in use; the challenger's is `register.alias`
    # measured_well: share of the sequences whose lengths are within `evaluate.tolerance`, or rightly refused
    metric: Literal["mean_class_f1", "accuracy", "macro_recall", "measured_well"] = "mean_class_f1"
    # superiority: better than the champion by chance once in 1/alpha; non_inferiority: worse by less than `margin`
    aim: Literal["superiority", "non_inferiority"] = "superiority"
    margin: float = Field(0.03, gt=0, lt=1)
    class_margin: float = Field(0.10, gt=0, lt=1)  # recall of a class that may be lost
    site_margin: float = Field(0.10, gt=0, lt=1)  # accuracy at a site that may be lost
    # shown: a larger loss is ruled out, which takes many patients; not_refuted: no larger loss is shown
    guards: Literal["shown", "not_refuted"] = "shown"
    alpha: float = Field(0.05, gt=0, lt=0.5)  # one-sided, Holm over all tests of the decision
    min_patients: int = Field(5, ge=3)  # of a class or a site: fewer are not judged, and the page says so
    max_ece: float = Field(0.15, gt=0, le=1)
    max_false_alarms: float = Field(0.15, gt=0, le=1)  # test sequences called unlike anything seen
    max_latency_ms: float = Field(500, gt=0)  # median of one sequence
    max_latency_ratio: float = Field(1.5, gt=0)  # over the champion's, in the same process
    max_size_mb: float = Field(1000, gt=0)  # of the model package, 10^6 bytes
    clean_tree: bool = True  # the code that trained it was committed
    approval: bool = True  # a person must say yes
    bootstrap: int = Field(2000, ge=100)  # draws, for the interval of the calibration error
    seed: int = 0


class Retrain(Frozen):
    """How new drops come in."""

    inbox: str = ""  # folder or URL (s3://...) with a folder per drop; empty: nothing comes in
    store: str = "arrivals"  # folder in the workspace that keeps, per task, everything that came
    marker: str = "COMPLETE"  # file by which the sender says that a drop is whole
    settle: float = Field(900, ge=0)  # seconds without a change after which a drop without a marker counts as whole
    warm: bool = False  # the main variant goes on from the champion, else from the challenger; rivals never do
    deidentify: bool = False  # True: no drop comes in without a key; with a key configured it is done in any case


class Drift(Frozen):
    """When a new drop differs from the training data."""

    alpha: float = Field(0.05, gt=0, lt=0.5)  # Holm over every test of one drop
    # Smaller differences are not named, however sure: standard deviations of the training data, and for the class mix
    # the share of sequences that would have to have another label.
    min_effect: float = Field(0.5, gt=0)
    min_mix: float = Field(0.2, gt=0, lt=1)
    min_patients: int = Field(5, ge=3)  # on either side; fewer cannot tell
    permutations: int = Field(1999, ge=99)
    seed: int = 0
