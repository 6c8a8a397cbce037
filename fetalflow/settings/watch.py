"""The block `watch` of `params.yaml`: the log of answers, and when it alerts and asks for a retraining
(docs/ml-lead/watch.md)."""

from pydantic import Field, model_validator

from fetalflow.settings.operations import Drift, Frozen


class Watch(Frozen):
    folder: str = ""  # of the log, such as answers; a relative path lies in the workspace; empty: nothing is logged
    days: int = Field(365, ge=1, le=36_500)  # answers that are older are removed
    keep_pictures: bool = False  # True: the answered frames are kept too, for as long as the answers
    window: int = Field(1, ge=1, le=365)  # days that are compared together; the last one is the day that is watched
    before: int = Field(7, ge=1, le=3650)  # days without a finding before them, with which they are compared
    min_answers: int = Field(20, ge=1, le=10**9)  # in the window; with fewer nothing is estimated
    # When a figure of a site counts as changed. alpha is that of one day, corrected for all its tests.
    drift: Drift = Drift(alpha=0.05, min_effect=1.0, min_mix=0.2)
    # A share (unlike the training data, without an answer, blank frames) that changed by less is not reported.
    min_share: float = Field(0.2, gt=0, lt=1)
    # Where the upper end of the estimated accuracy is lower than the accuracy of the test by more than this, it alerts.
    max_loss: float = Field(0.02, ge=0, lt=1)
    min_agreement: float = Field(0.7, ge=0, le=1)  # of shadow and champion; a lower share alerts
    ask_days: int = Field(3, ge=1, le=365)  # days with a finding, of the last `of_days`, that ask for a retraining
    of_days: int = Field(5, ge=1, le=365)

    @model_validator(mode="after")
    def _days_fit(self) -> "Watch":
        if self.ask_days > self.of_days:
            raise ValueError(f"ask_days is {self.ask_days}, expected at most of_days, which is {self.of_days}")
        return self
