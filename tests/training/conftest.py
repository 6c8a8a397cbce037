"""What holds for all tests of training."""

from collections.abc import Iterator

import pytest
from training_sets import narrow_networks

from fetalflow.models.movement import fetalmovnet


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WIDTHS", "ATTENTION_WIDTH"):
            patch.setattr(fetalmovnet, name, getattr(fetalmovnet, name))
        narrow_networks()
        yield
