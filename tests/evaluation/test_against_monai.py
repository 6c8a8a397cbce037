"""Our Dice, IoU, Hausdorff distance and mask loss agree with MONAI. docs/decisions.md explains why we keep ours."""

from types import ModuleType

import numpy as np
import pytest
import torch

from fetalflow.evaluation.segmentation import hausdorff_95, overlap
from fetalflow.training.segmenter import dice, mask_loss

pytestmark = pytest.mark.filterwarnings("ignore:the (prediction|ground truth) of class")  # of empty masks

EMPTY, FULL, PIXEL, OTHER_PIXEL, AT_THE_EDGE, LARGER = (np.zeros((32, 40), bool) for _ in range(6))
FULL[:], PIXEL[3, 5], OTHER_PIXEL[30, 39], AT_THE_EDGE[5:20, :10], LARGER[6:22, :12] = (True,) * 5
EDGE_CASES = {
    "both empty": (EMPTY, EMPTY),
    "outline missed": (EMPTY, LARGER),
    "false outline": (LARGER, EMPTY),
    "both full": (FULL, FULL),
    "empty and full": (EMPTY, FULL),
    "one pixel each": (PIXEL, OTHER_PIXEL),
    "the same pixel": (PIXEL, PIXEL),
    "one pixel and full": (PIXEL, FULL),
    "at the edge of the frame": (AT_THE_EDGE, LARGER),
}


@pytest.fixture(scope="module")
def monai() -> ModuleType:
    """Imported here, since the import takes seconds."""
    pytest.importorskip("monai.losses")
    pytest.importorskip("monai.metrics")
    return pytest.importorskip("monai")


def blob(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    middle, radii = random.uniform(0, (height, width)), random.uniform(1, (height / 2, width / 2))
    return ((y - middle[0]) / radii[0]) ** 2 + ((x - middle[1]) / radii[1]) ** 2 < 1


def assert_same(monai: ModuleType, found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float]) -> None:
    a, b = (torch.from_numpy(mask)[None, None].float() for mask in (found, truth))
    metrics = monai.metrics
    theirs = [metrics.compute_dice(a, b, ignore_empty=False), metrics.compute_iou(a, b, ignore_empty=False)]
    assert overlap(found, truth) == pytest.approx([value.item() for value in theirs], rel=1e-6)
    away = metrics.compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=list(spacing))
    assert hausdorff_95(found, truth, spacing) == pytest.approx(away.item(), rel=1e-6, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.2, 0.9)])
@pytest.mark.parametrize("case", EDGE_CASES)
def test_metrics_of_edge_cases(case, spacing, monai):
    assert_same(monai, *EDGE_CASES[case], spacing)


def test_metrics_of_random_masks_on_grids_of_any_spacing(monai):
    random = np.random.default_rng(0)
    for _ in range(60):
        height, width = random.integers(8, 97, 2)
        assert_same(monai, blob(random, height, width), blob(random, height, width), tuple(random.uniform(0.1, 2, 2)))
        noise = random.random((2, height, width)) < random.random((2, 1, 1))
        assert_same(monai, *noise, tuple(random.uniform(0.1, 2, 2)))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("size", [1.0, 10.0, 300.0])
def test_the_mask_loss_its_gradient_and_the_dice_of_validation(share, size, monai):
    torch.manual_seed(0)
    logits = size * torch.randn(3, 4, 24, 32)
    masks = (torch.rand_like(logits) < share).to(torch.uint8)
    theirs = monai.losses.DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    ours, other = (logits.clone().requires_grad_() for _ in range(2))
    found, expected = mask_loss(ours, masks).mean(), theirs(other[:, None], masks[:, None].float())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(*torch.autograd.grad(found + expected, (ours, other)), rtol=1e-5, atol=1e-9)
    answers = (logits > 0).float()
    validated = monai.metrics.compute_dice(answers[:, None], masks[:, None], ignore_empty=False)[:, 0]
    torch.testing.assert_close(dice(answers, masks.float(), smooth=0.0), validated, rtol=0, atol=0)
