"""What an exported file says of itself, so that it can be fed without this project: its input, labels and outputs.

docs/operator/export.md has an example that follows it with numpy and onnxruntime alone.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fetalflow.models.familiarity import UNLIKE


def how_to_feed(config: Mapping[str, Any], outputs: Iterable[str]) -> dict[str, str]:
    """The metadata of an ONNX file by key. config: of the package; outputs: names of the file's outputs."""
    size, outputs = config["size"], set(outputs)
    facts = {
        "input": (
            "frames: float32 [batch, frames, height, width], grey values 0-255 divided by 255, so 0 to 1; colour is "
            "converted to grey first. No mean is subtracted."
        ),
        "frames": _frames(config),
        "windows": (
            f"of a longer cine, they begin every {stride_of(config)} frames; their probabilities are averaged, and "
            "the median of their unfamiliarity is that of the cine"
        ),
        "stride": str(stride_of(config)),
        "resize": (
            f"A frame whose longer side is over {size} px is reduced to {size} px with its aspect ratio, by area "
            "averaging (cv2.INTER_AREA), sides and grey values rounded. A smaller one is not enlarged."
        ),
        "padding": f"with 0 to {size} x {size} px; top = ({size} - height) // 2, left = ({size} - width) // 2",
        "sector": (
            "Pixels beside the sector of the ultrasound (text, scales, logos) are set to 0 before frames are resized."
        ),
        "labels": json.dumps(list(config["labels"])),
    }
    if "logits" in outputs:
        facts["logits"] = "[batch, labels], in the order of labels; softmax over the labels gives the probabilities"
    if "mask" in outputs:
        facts["mask"] = (
            "logits [batch, frames, height, width]; sigmoid above 0.5 is the structure, in px of the padded frame. "
            "Remove the padding and undo the resizing before anything is measured."
        )
    return facts | (_unfamiliarity(config) if "features" in outputs else {})


def stride_of(config: Mapping[str, Any]) -> int:
    """Frames between the starts of two windows. A network of single frames gets every frame."""
    return 1 if config["frames"] == 1 else config["extract"].get("stride", config["frames"])


def _frames(config: Mapping[str, Any]) -> str:
    n, fps, every = config["frames"], config["extract"].get("fps"), config["extract"].get("every") or 1
    if n == 1:
        return "1 frame"
    recorded = "recorded frames" if every == 1 else f"frames, one of every {every} recorded ones"
    return f"{n} consecutive {f'frames at {fps:g} frames per second' if fps else recorded}, in order of time"


def _unfamiliarity(config: Mapping[str, Any]) -> dict[str, str]:
    if "familiarity" not in config:
        return {"features": "[batch, D]; this model has no limit for what is unlike its training data"}
    return {
        "features": "[batch, D], from which the unfamiliarity is computed",
        "unfamiliarity": (
            "Arrays means [C, D], directions [K, D] and variances [K + 1] are in familiarity.safetensors of the model "
            "package. f = features / |features|; for every mean m: o = f - m, a = directions @ o, square = sum(a^2 / "
            "variances[:K]) + max(0, |o|^2 - |a|^2) / variances[K]. Unfamiliarity = sqrt(least square) / threshold."
        ),
        "threshold": repr(float(config["familiarity"]["threshold"])),
        "unlike": f"Above {UNLIKE:g} the input is unlike the training data: do not use its answer.",
    }
