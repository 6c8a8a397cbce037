"""`fetalflow describe`."""

import pytest
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.models.summary import count_gmac, describe, task_of
from flows.cli.app import app


def test_describe_says_what_the_paper_size_network_is():
    text = describe("fetalmovnet", 10, 300, 7, {})
    assert "trainable parameters: 195,161,287 (780.6 MB as float32)" in text
    assert "conv_branch 8,044,096, attention_branch 186,944,256, head 172,935" in text
    assert "7.68 GMAC" in text
    conv4 = next(line for line in text.splitlines() if "conv4" in line)
    assert "[1, 512, 37, 37]" in conv4 and "1,180,160" in conv4
    query = next(line for line in text.splitlines() if "query" in line)
    assert "[1, 10, 1024]" in query and "92,161,024" in query
    assert text.count("GMAC") == 1 and "mult-adds" not in text


def test_gmac_by_hand():
    widths, sides = (10, 64, 128, 256, 512, 256), (300, 150, 75, 37, 18)
    convolutions = sum(9 * widths[i] * widths[i + 1] * side**2 for i, side in enumerate(sides))
    dense = 20_736 * 256 + 256 * 256 + 256 * 128 + 128 * 64 + 64 * 7
    assert count_gmac("cnn", 10, 300, 7) == pytest.approx((convolutions + dense) / 1e9, rel=1e-9)


def test_options_and_size_are_heard():
    assert "14,183,623" in describe("fetalmovnet", 10, 64, 7)
    assert "287,322,311" in describe("fetalmovnet", 10, 300, 7, {"separate_key": True})
    with pytest.raises(InputError, match="known networks"):
        describe("transformer", 10, 300, 7)


@pytest.mark.parametrize(
    ("words", "task", "shape", "figures"),
    [
        (["fetalmovnet"], "movement", "10 frames of 300 x 300 px, 7 classes", ["195,161,287", "7.68 GMAC"]),
        (["fetalmovnet_s"], "movement", "10 frames of 300 x 300 px, 7 classes", ["998,023", "0.28 GMAC"]),
        (["lite_attention"], "planes", "1 frame of 224 x 224 px, 6 classes", ["3,749,305", "0.38 GMAC"]),
        (["lite_attention", "--size", "128", "--set", "backbone=lite0_short"], "planes", "128 x 128", ["928,851"]),
    ],
)
def test_a_network_is_described_at_its_papers_size(words, task, shape, figures):
    assert task_of(words[0]) == task
    told = CliRunner().invoke(app, ["describe", *words]).stdout
    assert all(figure in told for figure in [shape, *figures])
