"""The Lightning module of a network that segments and labels a clip, with its loss.

loss of a sequence = mask loss + SIDES * mean of the mask losses of its sides + LABEL * cross entropy of its label
mask loss = (1 - soft Dice over the whole clip) + mean binary cross entropy over its pixels

- Dice weights a femur, 1 % of the pixels, as much as a head. It is computed over the clip and not for each frame, so
  that a frame without the structure is no special case. Cross entropy has a gradient for pixels where Dice has none
  (wrong and confident), and gives smooth probabilities, with which an outline can be found to fractions of a pixel. In
  practice both are in 0-1, and they have the same weight.
- SIDES: side outputs matter only for the mask that they are fused into, so all of them together have half the weight.
- LABEL: the label is learned within a few epochs and then overfits. With a weight of 1 its loss, and not the mask's,
  would decide which epoch is kept.
"""

from types import EllipsisType

import torch
from torch import Tensor
from torch.nn import functional as F

from fetalflow.models.building import Answer
from fetalflow.models.building import segments as segments
from fetalflow.training.augmentation import augment_both
from fetalflow.training.classifier import Classifier
from fetalflow.training.device_look import as_another_device
from fetalflow.training.frame_size import picture_box, smaller
from fetalflow.training.loading import UNKNOWN

SIDES = 0.5
LABEL = 0.2
SMOOTH = 1.0  # px: keeps the Dice of an empty mask defined

Batch = tuple[Tensor, Tensor, Tensor]  # float [B, N, H, W] in 0-1; uint8 [B, N, H, W], 0, 1 or UNKNOWN; int64 [B]


class Segmenter(Classifier):
    """A classifier for networks that return `Answer`, with masks in its batches. It also logs val_dice, the mean over
    the sequences with a mask (NaN where no sequence has one). A sequence without a mask trains the label only.

    Raises InputError for settings that do not work with masks."""

    figures = (*Classifier.figures, "val_dice")
    refused = ("drift_augment", "align", "distil")
    why = (
        "it works for classifiers only: with {network}, masks would not drift with the frames, and alignment and "
        "teachers would change only the label"
    )

    def training_step(self, batch: Batch, _: int) -> Tensor:
        frames, masks, labels = batch
        box = self._box(frames)
        if self.settings.augment:
            frames, masks = augment_both(frames, masks, bool(self.settings.mirror))
        if self.settings.device_augment:
            frames = as_another_device(frames)
        frames, masks = frames[box], masks[box]
        if self.current_epoch < self.settings.small_epochs:
            frames, masks = smaller(frames, masks)
        answer = self.network(frames)
        self._log_answer("train", answer, masks, labels)
        return self._scaled_for_ddp(
            self._answer_loss(answer, masks, labels, self.settings.label_smoothing), len(labels)
        )

    def validation_step(self, batch: Batch, _: int) -> None:
        frames, masks, labels = batch
        box = self._box(frames)
        frames, masks = frames[box], masks[box]
        answer = self.answering(frames)
        self._log_answer("val", answer, masks, labels)
        known = has_mask(masks)
        by_sequence = dice((answer.mask > 0).float(), (masks == 1).float(), smooth=0.0)
        total = torch.where(known, by_sequence, 0).sum()
        count = int(known.sum())
        self._log_means({"val_dice": total / max(1, count)}, count)

    def _box(self, frames: Tensor) -> tuple[EllipsisType | slice, ...]:
        """The part of the frames that the loss and the figures are of: answers in the bands do not count in use."""
        return (..., *picture_box(frames)) if self.settings.without_bands else (...,)

    def _log_answer(self, part: str, answer: Answer, masks: Tensor, labels: Tensor) -> None:
        # Without the sides, which exist in training only, so that curves of training and validation can be compared.
        answer = Answer(answer.mask.detach(), answer.label.detach())
        accuracy = (answer.label.argmax(1) == labels).float().mean()
        means = {f"{part}_loss": self._answer_loss(answer, masks, labels), f"{part}_accuracy": accuracy}
        self._log_means(means, len(labels))

    def _answer_loss(self, answer: Answer, masks: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        losses = mask_loss(answer.mask, masks)
        if answer.sides:
            losses = losses + SIDES * torch.stack([mask_loss(side, masks) for side in answer.sides]).mean(0)
        return losses.mean() + LABEL * self._loss(answer.label, labels, smoothing)


def has_mask(masks: Tensor) -> Tensor:
    """bool [B]: the sequences of uint8 [B, N, H, W] in which every pixel is known."""
    return (masks != UNKNOWN).flatten(1).all(1)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """float32 [B]; 0 for a sequence without a mask. logits, masks: [B, N, H, W]."""
    logits, truth = logits.float(), (masks == 1).float()  # half precision cannot hold sums over a clip
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").flatten(1).mean(1)
    return torch.where(has_mask(masks), 1 - dice(logits.sigmoid(), truth) + cross_entropy, 0)


def dice(found: Tensor, truth: Tensor, smooth: float = SMOOTH) -> Tensor:
    """Soft Dice [B], over all frames of each sequence; 1 where both are empty. found: [B, N, H, W] in 0-1."""
    found, truth = found.flatten(1), truth.flatten(1)
    sizes = found.sum(1) + truth.sum(1)
    overlap = (2 * (found * truth).sum(1) + smooth) / (sizes + smooth)
    return torch.where(sizes > 0, overlap, 1.0)
