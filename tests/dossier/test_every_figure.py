"""What every chapter keeps: no number without a source, the same evidence gives the same dossier, no patient's name."""

import pytest


@pytest.mark.parametrize("task", ["movement", "planes", "biometry"])
def test_smoke(composed_of, task):
    content, page = composed_of(task)
    assert content["chapters"] and page
