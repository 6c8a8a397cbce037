"""The loss of mask and label, by hand; what is told; and that a network learns by it."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from fetalflow.models.building import Answer, build
from fetalflow.settings.params import Train
from fetalflow.training.answers import answer_dataset
from fetalflow.training.augmentation import augment, augment_both
from fetalflow.training.fitting import fit_network, make_trainer
from fetalflow.training.loading import ordered_loader, training_loader
from fetalflow.training.segmenter import Segmenter, dice, has_mask, mask_loss, segments


class Fixed(nn.Module):
    """Answers what it was given."""

    def __init__(self, answer: Answer):
        super().__init__()
        self.answer = answer
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> Answer:
        return self.answer


class Bright(nn.Module):
    """What is bright is the structure."""

    def __init__(self):
        super().__init__()
        self.edge = nn.Parameter(torch.tensor(0.25))

    def forward(self, x: torch.Tensor) -> Answer:
        return Answer(x - self.edge, torch.stack([self.edge, self.edge]).expand(len(x), 2))


class Discs(Dataset):
    """A bright disc (label 0) or a bright bar (label 1) somewhere on noise, in `frames` frames; every fourth sequence
    has no mask."""

    def __init__(self, n: int, seed: int, frames: int = 1, size: int = 32, masks: bool = True):
        draw = torch.Generator().manual_seed(seed)
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        self.items = []
        for i in range(n):
            y, x = (torch.rand(2, generator=draw) * (size - 16) + 8).tolist()
            inside = ((rows - y) ** 2 + (columns - x) ** 2 < 49) if i % 2 else ((rows - y).abs() < 2.5)
            noise = 0.3 * torch.rand(frames, size, size, generator=draw)
            mask = inside.to(torch.uint8).expand(frames, -1, -1).clone()
            self.items.append((noise + 0.4 * mask, mask if masks and i % 4 != 3 else torch.full_like(mask, 255), i % 2))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int):
        return self.items[i]


def told(answer: Answer, batch: tuple, part: str = "val", **train) -> tuple[dict, torch.Tensor | None]:
    segmenter, found = Segmenter(Fixed(answer), Train(**train)), {}
    segmenter.log_dict = lambda means, **words: found.update(means | {"count": words["batch_size"]})
    loss = segmenter.training_step(batch, 0) if part == "train" else segmenter.validation_step(batch, 0)
    return found, loss


def test_soft_dice_by_hand():
    found, truth = torch.tensor([[[[0.5, 0.5], [0.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert dice(found, truth, smooth=0.0).tolist() == [2 * 1.5 / (2 + 2)]
    assert dice(found, truth).item() == pytest.approx((2 * 1.5 + 1) / (2 + 2 + 1))


def test_dice_is_of_the_whole_clip_and_of_nothing_it_is_one():
    found, truth = torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4)
    found[0, 0, :2], truth[0, 0, :1] = 1, 1
    truth[0, 1, :1] = 1
    assert dice(found, truth, smooth=0.0).tolist() == [2 * 4 / (8 + 8), 1.0]


def test_mask_loss_by_hand_and_none_without_a_mask():
    logits = torch.tensor([[[[0.0, math.log(3)]]], [[[5.0, 5.0]]]])  # p = 1/2 and 3/4
    masks = torch.tensor([[[[0, 1]]], [[[255, 255]]]], dtype=torch.uint8)
    crossed = (math.log(2) + math.log(4 / 3)) / 2
    overlap = (2 * 0.75 + 1) / (1.25 + 1 + 1)
    assert mask_loss(logits, masks).tolist() == pytest.approx([1 - overlap + crossed, 0.0])
    assert has_mask(masks).tolist() == [True, False]


def test_mask_loss_survives_half_precision():
    logits = torch.full((1, 1, 256, 256), 12.0, dtype=torch.float16)  # 65 536 px: their sum is beyond float16
    assert mask_loss(logits, torch.ones(1, 1, 256, 256, dtype=torch.uint8)).item() == pytest.approx(0, abs=1e-4)


def test_the_loss_is_mask_sides_and_label_in_their_weights():
    torch.manual_seed(0)
    masks = torch.stack([(torch.rand(2, 4, 4) > 0.5).to(torch.uint8), torch.full((2, 4, 4), 255, dtype=torch.uint8)])
    answer = Answer(torch.randn(2, 2, 4, 4), torch.randn(2, 3), tuple(torch.randn(2, 2, 4, 4) for _ in range(2)))
    labels = torch.tensor([2, 0])
    _, loss = told(answer, (torch.rand(2, 2, 4, 4), masks, labels), "train")

    def by_hand(logits: torch.Tensor) -> torch.Tensor:
        p, y = logits[0].sigmoid(), masks[0].float()  # the first sequence alone has a mask
        return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1) + F.binary_cross_entropy(p, y)

    expected = (by_hand(answer.mask) + 0.5 * (by_hand(answer.sides[0]) + by_hand(answer.sides[1])) / 2) / 2
    torch.testing.assert_close(loss, expected + 0.2 * F.cross_entropy(answer.label, labels))


def test_sides_and_smoothing_are_trained_on_and_not_told():
    torch.manual_seed(0)
    batch = torch.rand(2, 1, 4, 4), (torch.rand(2, 1, 4, 4) > 0.5).to(torch.uint8), torch.tensor([1, 0])
    answer = Answer(torch.randn(2, 1, 4, 4), torch.randn(2, 2), (torch.randn(2, 1, 4, 4),))
    training, loss = told(answer, batch, "train", label_smoothing=0.3)
    validation, _ = told(answer._replace(sides=()), batch)
    expected = mask_loss(answer.mask, batch[1]).mean() + 0.2 * F.cross_entropy(answer.label, batch[2])
    for figure in (training["train_loss"], validation["val_loss"]):
        torch.testing.assert_close(figure, expected)
    assert loss > expected
    assert (
        training["train_accuracy"] == validation["val_accuracy"] == (answer.label.argmax(1) == batch[2]).float().mean()
    )


def test_val_dice_is_of_the_sequences_with_a_mask():
    mask = torch.tensor([[[[1.0, -1.0]]], [[[1.0, 1.0]]], [[[-1.0, -1.0]]]])
    truth = torch.tensor([[[[1, 0]]], [[[255, 255]]], [[[1, 0]]]], dtype=torch.uint8)
    found, _ = told(Answer(mask, torch.zeros(3, 2)), (torch.rand(3, 1, 1, 2), truth, torch.zeros(3, dtype=torch.long)))
    assert found["val_dice"].item() == 0.5 and found["count"] == 2


def test_class_weights_weigh_the_labels_alone():
    weights, labels = torch.tensor([0.5, 1.5]), torch.tensor([0, 1])
    answer = Answer(torch.randn(2, 1, 4, 4), torch.randn(2, 2))
    segmenter, masks = Segmenter(Fixed(answer), Train(), weights), torch.ones(2, 1, 4, 4, dtype=torch.uint8)
    found = segmenter._answer_loss(answer, masks, labels)
    weighed = (F.cross_entropy(answer.label, labels, reduction="none") * weights).mean()
    torch.testing.assert_close(found, mask_loss(answer.mask, masks).mean() + 0.2 * weighed)


def test_what_a_network_answers_is_known_without_asking_it():
    assert segments(build("fetalnet", 1, 32, 2, width=2)) and segments(build("fetalnet_lite", 1, 32, 2))
    assert not segments(build("cnn", 4, 32, 3)) and not segments(nn.Identity())


def test_frames_and_masks_move_together():
    items = [Discs(8, seed=3, frames=2)[i] for i in range(8)]
    masks = torch.stack([item[1] for item in items])
    frames = (masks == 1).float() * 0.5  # what is bright is the mask
    torch.manual_seed(5)
    moved, truth = augment_both(frames, masks)
    for i, known in enumerate(has_mask(masks)):
        if not known:
            assert (truth[i] == 255).all()
            continue
        assert not torch.equal(truth[i], masks[i]) and truth[i].max() == 1
        level = moved[i].max() / 2  # brightness changes; half of it is the edge
        assert ((moved[i] > level) == (truth[i] == 1)).float().mean() > 0.995
        assert torch.equal(truth[i, 0], truth[i, 1])
    torch.manual_seed(5)
    assert torch.equal(augment(frames), moved)


def fit(network: nn.Module, train: Dataset, validation: Dataset, folder, asked: int = 8, **words) -> dict[str, float]:
    settings = Train(**{"batch": 8, "learning_rate": 1e-2, "optimizer": "adam", "device": "cpu"} | words)
    trainer = make_trainer(settings.epochs, "cpu", "32-true", [], folder)
    trainer.fit(
        Segmenter(network.train(), settings),
        training_loader(train, settings.batch, seed=0),
        ordered_loader(validation, asked),
    )
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize(
    ("name", "options", "epochs"),
    [("fetalnet", {"width": 4, "dropout": 0.0}, 14), ("fetalnet_lite", {"head_dropout": 0.0}, 6)],
)
def test_a_network_learns_mask_and_label(name, options, epochs, tmp_path):
    torch.manual_seed(0)
    network = build(name, 2, 32, 2, **options)
    figures = fit(network, Discs(16, 0, 2), Discs(16, 1, 2), tmp_path, epochs=epochs, schedule="cosine", batch=4)
    assert figures["val_dice"] > 0.9 and figures["val_accuracy"] > 0.8, figures


def test_without_any_mask_the_label_is_learned_alone(tmp_path):
    torch.manual_seed(0)
    network = build("fetalnet", 1, 32, 2, width=4, dropout=0.0, head_dropout=0.0)
    before = {name: value.clone() for name, value in network.named_parameters()}
    figures = fit(network, Discs(16, 0, masks=False), Discs(8, 1, masks=False), tmp_path, epochs=2)
    still = {name for name, value in network.named_parameters() if torch.equal(before[name], value)}
    assert {"mask.fuse.weight", "decoder.0.up.weight"} <= still and "head.1.weight" not in still
    assert math.isnan(figures["val_dice"]) and math.isfinite(figures["val_loss"])


def test_val_dice_does_not_depend_on_how_masks_fall_into_batches(tmp_path):
    def found(asked: int) -> float:
        return fit(Bright(), Discs(4, 0), Discs(13, 1), tmp_path, asked=asked, epochs=1)["val_dice"]

    # One by one, some batches hold no mask at all.
    assert [found(1), found(3)] == pytest.approx([found(13)] * 2, abs=1e-6)
    assert 0.5 < found(13) < 1


def test_fitting_chooses_by_what_the_network_answers(tmp_path):
    network, rows = build("fetalnet", 1, 32, 2, width=2), []
    train, validation = Discs(8, 0), Discs(5, 1)
    settings = Train(batch=4, epochs=2, device="cpu", augment=True, ema=0.9)
    fitted = fit_network(network, train, validation, settings, 0, tmp_path, 2, rows.append)
    assert [*fitted.curves] == ["epoch", *Segmenter.figures, "seconds"] and len(rows) == 2
    assert fitted.curves["val_dice"].between(0, 1).all()
    p, _ = answer_dataset(network, validation, 2)
    assert p.shape == (5, 2) and p.sum(1) == pytest.approx(1)
