"""A training step on fewer pixels: without bands, and smaller; frames and masks stay together."""

import pytest
import torch

from fetalflow.cine.letterbox import fit
from fetalflow.errors import InputError
from fetalflow.models.building import Answer, build
from fetalflow.settings.params import Train
from fetalflow.training.classifier import Classifier
from fetalflow.training.frame_size import RIM, STEP, picture_box, smaller
from fetalflow.training.segmenter import Segmenter


def fitted(height: int, width: int, size: int = 256) -> torch.Tensor:
    """float [2, 1, size, size], lit recorded frames with the bands that fitting adds."""
    return torch.stack([torch.from_numpy(fit(torch.full((1, height, width), 200).byte().numpy(), size))] * 2) / 255


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (540, 800, 192, 256),  # HC18: 173 rows of 256
        (800, 540, 256, 192),
        (256, 256, 256, 256),  # no band
        (196, 256, 192, 256),  # 4 rows more than a multiple of 32: they are the rim
        (197, 256, 224, 256),
        (100, 120, 96, 128),  # small frames are padded on all sides
    ],
)
def test_bands_are_left_out_and_no_more_than_the_rim_of_the_picture(height, width, rows, columns):
    x = fitted(height, width)
    box = picture_box(x)
    kept = x[..., box[0], box[1]]
    assert kept.shape[2:] == (rows, columns)
    lit = (x > 0).sum(), (kept > 0).sum()
    assert lit[0] - lit[1] <= 2 * 2 * RIM * 256 * len(x)
    assert all(side % STEP == 0 for side in kept.shape[2:])


def test_a_picture_beside_the_middle_is_kept_whole():
    x = torch.zeros(1, 1, 256, 256)
    x[..., 150:200, 3:9] = 0.5
    rows, columns = picture_box(x)
    assert (x[..., rows, columns] > 0).sum() == (x > 0).sum()


def test_black_frames_are_kept():
    assert picture_box(torch.zeros(2, 1, 64, 64)) == (slice(0, 64), slice(0, 64))


def test_smaller_frames_and_masks_stay_together():
    masks = torch.zeros(3, 1, 64, 96, dtype=torch.uint8)
    masks[0, :, 16:48, 32:64] = 1
    masks[1] = 255
    x, small = smaller((masks == 1).float(), masks)
    assert x.shape == small.shape == (3, 1, 48, 72) and small.dtype == torch.uint8
    assert torch.equal(x[0] > 0.5, small[0] == 1) and (small[1] == 255).all() and small[2].max() == 0
    assert int(small[0].sum()) == pytest.approx(0.75**2 * int(masks[0].sum()), rel=0.05)


class Seen(torch.nn.Module):
    """Keeps the size of what it is shown."""

    def forward(self, x: torch.Tensor) -> Answer:
        self.size = tuple(x.shape[2:])
        return Answer(x, torch.zeros(len(x), 2))


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (256, 256)),
        ({"without_bands": True}, (192, 256)),
        ({"small_epochs": 1}, (192, 192)),
        ({"without_bands": True, "small_epochs": 1}, (144, 192)),
        ({"without_bands": True, "small_epochs": 1, "augment": True, "device_augment": True}, (144, 192)),
    ],
)
def test_a_step_sees_the_frames_in_the_size_that_the_settings_say(settings, size):
    segmenter, x = Segmenter(Seen(), Train(**settings)), fitted(540, 800)
    segmenter.log_dict = lambda *_, **__: None
    segmenter.training_step((x, (x > 0).byte(), torch.zeros(2, dtype=torch.long)), 0)
    assert segmenter.network.size == size  # epoch 0


def test_validation_sees_no_bands_but_the_full_size():
    segmenter, x = Segmenter(Seen(), Train(without_bands=True, small_epochs=1)), fitted(540, 800)
    segmenter.log_dict = lambda *_, **__: None
    segmenter.validation_step((x, (x > 0).byte(), torch.zeros(2, dtype=torch.long)), 0)
    assert segmenter.network.size == (192, 256)


@pytest.mark.parametrize("setting", [{"without_bands": True}, {"small_epochs": 2}])
def test_a_classifier_refuses_what_has_no_effect_on_it(setting):
    with pytest.raises(InputError, match=f"train.{next(iter(setting))} .* masks"):
        Classifier(build("cnn", 2, 32, 2), Train(**setting))
