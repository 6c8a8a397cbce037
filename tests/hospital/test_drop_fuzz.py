"""No drop ends in a traceback, and no row vanishes. More drops: `python -m benchmarks drop_fuzz --drops 5000`."""

from benchmarks.studies.drop_fuzz import run


def test_every_input_of_a_drop_has_a_result_or_a_reason():
    assert run(seed=0, drops=80) == []
