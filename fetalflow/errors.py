"""Exceptions of the library: for wrong input, for one cine or row that cannot be used, and for a lost server."""


class InputError(ValueError):
    """Wrong input that a person can correct. The message names the file or row, what was expected, what was found, and
    what to do."""


class Rejected(Exception):  # noqa: N818 - a decision about one input, not an error of the program
    """One cine or row that cannot be used: it goes to quarantine. `kind` is one word, `reason` one sentence."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)  # both arguments: pickling between processes needs them
        self.kind = kind
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


class TrackingFailed(RuntimeError):
    """The MLflow server is out of reach or refused the request. Nothing is lost: the step can be repeated."""
