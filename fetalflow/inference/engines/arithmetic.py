"""With which instructions of the processor an engine rounds its numbers. A verdict of the gate holds only there."""

import platform
import re
from functools import cache
from pathlib import Path

PROCESSOR = Path("/proc/cpuinfo")  # of Linux; elsewhere the instructions are not known
# Instructions that add products of 8 bits in 32 bits. Without them ONNX Runtime on x86 adds two products in 16 bits,
# which may overflow.
EIGHT_BITS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


@cache
def instructions() -> frozenset[str]:
    """Those of EIGHT_BITS and BFLOAT16 that this processor has, and `unknown` where the system does not say."""
    if not PROCESSOR.is_file():
        return frozenset({"unknown"})
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", PROCESSOR.read_text(errors="replace"), re.MULTILINE)
    return frozenset(" ".join(lines[:1]).split()) & (EIGHT_BITS | BFLOAT16) if lines else frozenset({"unknown"})


def arithmetic(engine: str) -> str:
    """How this machine computes for an engine, as words that can be compared; "" where every machine rounds alike up to
    float32."""
    if engine not in ("int8", "openvino"):
        return ""
    has, needed = instructions(), EIGHT_BITS if engine == "int8" else BFLOAT16
    kind = "8 bits added in 32 bits" if engine == "int8" else "bfloat16"
    if "unknown" in has:
        return f"{platform.machine()}, instructions unknown"
    return f"{platform.machine()}, {kind if has & needed else f'not {kind}'}"
