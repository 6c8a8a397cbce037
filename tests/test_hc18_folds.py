"""The folds of the benchmark hc18: every head is tested once, none is on both sides, and folds of two recipes do not
mix."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.studies.hc18_jobs import check_same_recipe, fold_parts, recipe
from fetalflow.errors import InputError


@pytest.mark.parametrize(("heads", "folds"), [(53, 5), (9, 3), (129, 5)])
def test_every_head_is_tested_once_and_is_in_one_part(heads, folds):
    patients = pd.Series(np.random.default_rng(0).integers(0, heads, 3 * heads).astype(str))
    parts = [fold_parts(patients, folds, fold) for fold in range(folds)]
    assert (sum((part == "test").astype(int) for part in parts) == 1).all()
    for part in [*parts, fold_parts(patients, folds, None)]:
        assert (part.groupby(patients).nunique() == 1).all()
        assert {"train", "validation"} <= set(part)
        assert (part == "validation").sum() < (part == "train").sum()
    assert "test" not in set(fold_parts(patients, folds, None))


def test_folds_of_another_recipe_are_refused(tmp_path):
    settings = recipe()
    check_same_recipe(tmp_path, settings, 5, 0)
    check_same_recipe(tmp_path, settings, 5, 0)
    other = recipe([{"biometry": {"train": {"epochs": 3, "small_epochs": 1}}}])
    for wrong in ((other, 5, 0), (settings, 4, 0), (settings, 5, 1)):
        with pytest.raises(InputError, match="another recipe"):
            check_same_recipe(tmp_path, *wrong)
