"""The report: one page that opens without a network and says what the files beside it say."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import pandas as pd
import pytest
import yaml
from finished_planes_run import TASK as PLANES
from finished_planes_run import make_finished_planes_run
from finished_run import TASK, make_finished_run
from report_page import Page, fits, page_of

import stages.evaluate
import stages.report
import stages.significance
from fetalflow.errors import InputError
from fetalflow.report.drawings import as_image
from fetalflow.report.page import explained_by_label, split_counts, spread
from fetalflow.report.paper import environment
from fetalflow.report.written_numbers import number, p_value, percent, thousands
from flows.cli.runs import _alone_in_words, _in_words, _of_whom

SECTIONS = (
    *("result", "data", "quality", "split", "curves", "metrics", "confusion", "roc", "calibration", "tests"),
    *("sure", "unlike", "explain", "mistakes", "latency", "engines", "provenance", "limits"),
)
FIRST_LOOK = (
    "A first look: no other network was trained on these data, so nothing shows that a simpler one would be worse."
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = make_finished_run(tmp_path_factory.mktemp("run"))
    page_of(TASK, folder)
    return folder


@pytest.fixture(scope="module")
def html(workspace):
    return (workspace / "reports" / TASK / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing(html):
    page = Page(html)
    assert page.loads == []
    assert len(page.images) > 10 and all(image["src"].startswith("data:image/") for image in page.images)
    assert not re.search(r"url\(|@import|https?://[^\s\"'<]*\.(js|css|woff)", re.sub(r'src="data:[^"]*"', "", html))
    assert len(html) < 8_000_000


def test_the_page_is_whole(html):
    page = Page(html)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert set(SECTIONS) <= set(page.ids)
    assert {link.removeprefix("#") for link in page.links} == set(SECTIONS)
    assert all(image["alt"] for image in page.images)
    assert "None" not in page.text and "nan" not in page.text.split()


def test_nothing_is_cut_on_a_narrow_screen_or_on_paper(html, planes):
    fits(Page(html))
    fits(planes[1])


def written(metrics: dict, name: str) -> str:
    """A metric as a table of the page shows it."""
    value, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.4f} " + ("no interval" if low is None else f"{low:.4f} – {high:.4f}")


def test_the_page_says_what_the_files_say(html, workspace):
    text = Page(html).text
    reports = workspace / "reports" / TASK
    metrics = json.loads((reports / "metrics.json").read_text())
    for variant, found in metrics.items():
        assert f"{variant} {written(found, 'accuracy')}" in text
    assert metrics["fetalmovnet"]["accuracy"] == 1 and "fetalmovnet 1.0000 no interval" in text
    assert "0.9887" in text and "fetalmovnet (paper)" in text
    assert "For research, not a medical device" in text
    for comparison in json.loads((reports / "significance.json").read_text())["comparisons"].values():
        assert comparison["verdict"] in text
    config = json.loads((workspace / "models" / TASK / "fetalmovnet" / "config.json").read_text())
    assert config["weights"]["sha256"] in text
    assert "1 of 2 checks hold" in text and "0.81" in text and "Headers promised 1\u202f240" in text


def test_every_engine_has_its_verdict_its_losses_and_its_times(html):
    text = Page(html).text
    assert "Engine Verdict Macro F1, points lost Unlike the training data, points more Accuracy Same label" in text
    assert re.search(r"torch passed 0\.00 0\.00 91\.7 % 100\.0 % 2\.50 3\.25 2 5\.5", text)
    assert re.search(r"onnx default passed 0\.21 0\.00 83\.3 % 99\.0 % 9\.00 9\.50 2 5\.6", text)
    words = "In use onnx answers by default: accuracy 83.3 % on 12 test sequences, the same label as torch on 99.0 %"
    assert words in text
    assert "fetalmovnet 2.50 3.25" in text, "the time of torch has one value in all tables"
    assert "int8 refused : it could not be made: no <Sort> – – – – – – – –" in text and "no <Sort>" not in html


def test_how_sure_an_answer_is_is_that_of_the_score(html, workspace):
    path = workspace / "reports" / TASK / "evaluation" / "fetalmovnet-score.json"
    sure = json.loads(path.read_text())["certainty"]
    labels, section = sure["labels"], Page(html).text.split("How sure")[-1]
    assert labels["level"] < sure["level"], "so few validation patients do not allow the wanted level"
    stated = f"{int(100 * labels['level'])} % 90 % was wanted {100 * labels['all']['coverage']:.1f} %"
    assert stated in re.sub(" +", " ", section)
    assert f"{labels['before']['ece']:.3f} before, {labels['after']['ece']:.3f} after" in section
    assert f"cannot be promised with {labels['patients']} validation patients: all answers of at least 59" in section


def test_what_others_wrote_cannot_change_the_page(html):
    assert "cut &lt;off&gt;.avi" in html and "cut <off>" not in html


def test_the_mistakes_are_those_of_the_predictions(html, workspace):
    table = pd.read_csv(workspace / "data" / TASK / "predictions" / "fetalmovnet.csv")
    wrong = table[(table["part"] == "test") & (table["y_true"] != table["y_pred"])]
    rows = html.split('id="mistakes"')[1].split("</section>")[0]
    assert all(sequence in rows for sequence in wrong["sequence"])
    assert rows.count("<code>") == len(wrong)


def test_the_figures_are_kept_as_files(workspace):
    names = {path.name for path in (workspace / "reports" / TASK / "figures").iterdir()}
    kinds = ("confusion", "roc", "reliability", "risk", "curves")
    assert names == {f"{v}-{kind}.png" for v in ("fetalmovnet", "cnn") for kind in kinds} | {
        "accuracy.png",
        "differences.png",
    }


# ---- planes: a sequence is one frame


@pytest.fixture(scope="module")
def planes(tmp_path_factory):
    folder = make_finished_planes_run(tmp_path_factory.mktemp("planes"))
    return folder, Page(page_of(PLANES, folder))


def test_the_page_of_images_speaks_of_images(planes):
    _, page = planes
    assert set(SECTIONS) - {"engines"} <= set(page.ids) and page.open == [] and page.loads == []
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
    for said in ("24 test images of 8 patients", "Misclassified images", "ms per image", "By operator"):
        assert said in page.text
    rest = page.text.split("Settings")[0] + page.text.split("Limits")[-1]  # settings and checks keep their names
    for unsaid in ("test sequences", "Cines", "Until an answer", "Attention between frames", "shuffled-frames"):
        assert unsaid not in rest
    assert "None" not in page.text and "nan" not in page.text.split()


def test_the_published_row_of_planes_has_dashes_where_the_paper_is_silent(planes):
    folder, page = planes
    assert re.search(r"lite_attention \(paper\) 0\.9625 0\.9980 – – 0\.9576 –", page.text)
    metrics = json.loads((folder / "reports" / PLANES / "metrics.json").read_text())["lite_attention"]
    assert written(metrics, "top2_accuracy") in page.text


def test_false_alarms_are_those_of_the_score(planes):
    folder, page = planes
    score = json.loads((folder / "reports" / PLANES / "evaluation" / "lite_attention-score.json").read_text())
    found = score["familiarity"]
    section = page.text.split("Unlike the training data")[1]
    assert f"{100 * found['false_alarm_rate']:.1f} %" in section
    assert f"{found['flagged']} of {found['n']}" in section


def test_the_share_inside_the_structure_stands_beside_chance_by_class(planes):
    folder, page = planes
    overlap = json.loads((folder / "reports" / PLANES / "explain" / "explain.json").read_text())["overlap"]
    assert overlap["text"] in re.sub(" +", " ", page.text)
    assert overlap["unmeasured"] == {"Fetal brain": 0, "Maternal cervix": 0, "Other": 8}
    row = overlap["by_label"]["Grad-CAM backbone"]["Maternal cervix"]
    times = f"{row['concentration']:.2f}"
    assert f"{row['sequences']} {100 * row['inside']:.1f} % {100 * row['area']:.1f} % {times}" in page.text
    assert "Other not measured: 8 images without a known structure" in page.text


def test_pretrained_weights_and_the_split_are_named(planes):
    _, page = planes
    assert "Of these pretrained" in page.text and "Pretrained weights come from ImageNet" in page.text
    assert "Official: the data set defines the test part" in page.text
    assert "Warning" not in page.text


def test_a_random_split_of_patients_is_warned_of(planes, tmp_path):
    folder = shutil.copytree(planes[0], tmp_path / "random")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params[PLANES]["split"]["kind"] = "random"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    split = folder / "reports" / PLANES / "split.json"
    summary = json.loads(split.read_text())
    split.write_text(json.dumps(summary | {"overlap": summary["overlap"] | {"train-test": 5}}))
    text = Page(page_of(PLANES, folder)).text
    assert "Warning: 5 of the 8 test patients are also in training" in text
    assert "never seen in training" not in text and "Split by image" in text


def test_explain_draws_each_class_and_mistakes_of_images(planes):
    folder = planes[0] / "reports" / PLANES / "explain"
    result = json.loads((folder / "explain.json").read_text())
    kinds = [figure["kind"] for figure in result["figures"]]
    assert kinds == ["overlap", "overview", "filters", "mistake", "mistake"]
    table = pd.read_csv(folder / "overlap.csv")
    assert set(table["map"]) == {
        *("Grad-CAM backbone", "HiResCAM backbone", "integrated gradients", "brightness of the frame"),
    }
    assert set(table["label"]) == {"Fetal brain", "Maternal cervix"} and table["sequence"].nunique() == 5
    assert {figure["file"] for figure in result["figures"]} == {path.name for path in folder.glob("*.png")}
    for figure in result["figures"]:
        assert cv2.imread(str(folder / figure["file"])).std() > 10, figure["file"]


def test_unnamed_sites_are_no_row():
    manifest = pd.DataFrame({"site": ["", "a", "a", None], "patient": list("wxyz")})
    assert spread(manifest, "site") == [{"name": "a", "sequences": 2, "patients": 2}]
    assert spread(manifest, "operator") == []


def test_classes_without_a_map_say_so():
    assert explained_by_label({"overlap": {"text": "No sequence has a mask"}}, ["a"]) is None
    found = explained_by_label({"overlap": {"by_label": {"m": {"a": {"inside": 0.5}}}, "unmeasured": {"b": 3}}}, "ab")
    assert found == {"map": "m", "rows": {"a": {"inside": 0.5}, "b": {"left_out": 3}}}


@pytest.fixture
def copy(workspace, tmp_path, monkeypatch):
    """The finished run once more, to take parts away from; the current folder."""
    folder = shutil.copytree(workspace, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


def test_a_run_without_the_optional_parts_has_a_report(copy):
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params[TASK]["rivals"] = {}
    (copy / "params.yaml").write_text(yaml.safe_dump(params | {"ablations": {}}))
    reports = copy / "reports" / TASK
    for name in ("quality", "curves", "explain"):
        shutil.rmtree(reports / name)
    for name in ("extract.json", "export.json", "significance.json"):
        (reports / name).unlink()
    (copy / "data" / TASK / "quarantine.csv").unlink()
    stages.report.main(TASK)
    page = Page((reports / "report.html").read_text(encoding="utf-8"))
    assert set(SECTIONS) - {"engines"} == set(page.ids) & set(SECTIONS) and page.open == []
    assert "nothing to compare" in page.text and "The explain stage wrote nothing" in page.text
    assert FIRST_LOOK in page.text


def test_a_run_of_one_network_says_that_nothing_was_compared_and_how_to_go_on(copy, html):
    assert FIRST_LOOK not in Page(html).text and not _alone_in_words(copy, TASK)
    metrics = copy / "reports" / TASK / "metrics.json"
    metrics.write_text(json.dumps(dict(list(json.loads(metrics.read_text()).items())[:1])))
    assert _alone_in_words(copy, TASK) == f"This is a f{FIRST_LOOK[3:]}\n"
    (copy / "origin.yaml").write_text(yaml.safe_dump({TASK: {"profiles": ["first"], "changes": {}}}))
    said = _alone_in_words(copy, TASK)
    assert f"--unset profiles.first --workspace {copy}\n" in said and f"run --task {TASK} --name {copy.name}\n" in said


def test_two_patients_give_no_interval_and_an_empty_site_is_no_site(copy):
    """In the report, in the tests between variants and in the last line of `fetalflow run`."""
    for path in (copy / "data" / TASK / "predictions").glob("*.csv"):
        table = pd.read_csv(path).query("part == 'test'")
        table = table[table["patient"].isin(sorted(table["patient"].unique())[:2])]
        table.assign(site=["S1", *[None] * (len(table) - 1)]).to_csv(path, index=False)
    manifest = pd.read_parquet(copy / "data" / TASK / "manifest.parquet")
    manifest["site"] = manifest["site"].replace("S1", " ")
    manifest.to_parquet(copy / "data" / TASK / "manifest.parquet")
    summary = copy / "reports" / TASK / "split.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"unknown_patients": 31}))
    stages.evaluate.main(TASK)
    stages.significance.main(TASK)
    text = Page(page_of(TASK, copy)).text
    assert "The patients are unknown: the drop does not name the patient of 31 sequences" in text
    assert "never seen in training" not in text and "UNKNOWN" in _of_whom(copy / "reports" / TASK)
    assert "There is no interval: too few patients for an interval." in text and "no interval" in text
    assert re.search(r"difference [+-]\d\.\d+ \(too few patients for an interval\) over 2 patients", text)
    labels = text.split("Metrics on the test part")[1].split("Confusion matrices")[0]
    assert not re.search(r"\d – \d|By site", labels)
    assert "sites 1 " in text and re.search(r"arm 12 12 12 1 2", text), "one site, which has a name"
    figures = json.loads((copy / "reports" / TASK / "metrics.json").read_text())["fetalmovnet"]
    assert "(too few patients for an interval) on" in _in_words("fetalmovnet", figures)


@pytest.mark.parametrize(("missing", "stage"), [("metrics.json", "evaluate"), ("split.parquet", "split")])
def test_a_missing_stage_is_named(copy, missing, stage):
    next(copy.rglob(missing)).unlink()
    with pytest.raises(InputError, match=f"Run the {stage} stage"):
        stages.report.main(TASK)


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "map.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="map.png"):
        as_image(tmp_path / "map.png")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (number(0.98867), "0.9887"),
        (number(None), "–"),
        (number(float("nan")), "–"),
        (percent(0.5), "50.0 %"),
        (p_value(0.0004), "< 0.001"),
        (p_value(0.0123), "0.012"),
        (thousands(195161287), "195\u202f161\u202f287"),
    ],
)
def test_numbers_are_written_for_people(said, expected):
    assert said == expected


def test_the_split_table_counts_the_first_fold():
    rows = [
        ("s1", "p1", "a", 0, "train"),
        ("s2", "p2", "b", 0, "test"),
        ("s3", "p2", "b", 0, "test"),
        ("s1", "p1", "a", 1, "test"),
    ]
    found = split_counts(pd.DataFrame(rows, columns=["sequence", "patient", "label", "fold", "part"]), ["b", "a"])
    assert list(found["rows"]) == ["b", "a"]
    assert found["rows"]["b"] == {"train": 0, "validation": 0, "test": 2}
    assert found["totals"] == {"train": 1, "validation": 0, "test": 2}
    assert found["patients"]["test"] == 1 and found["folds"] == 2


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the PATH")
def test_a_browser_without_a_network_shows_every_picture(html, planes, tmp_path):
    counting = """<script>addEventListener("load", () => { const d = document.documentElement.dataset;
      d.broken = [...document.images].filter((i) => !i.naturalWidth).length; d.images = document.images.length;
      d.wide = document.documentElement.scrollWidth > innerWidth; });</script></body>"""
    stills = (planes[0] / "reports" / PLANES / "report.html").read_text(encoding="utf-8")
    page = tmp_path / "report.html"
    for text, width in ((html, 1280), (html, 500), (stills, 500)):
        page.write_text(text.replace("</body>", counting), encoding="utf-8")
        dom = browse(page, tmp_path, width)
        assert re.search(r'data-broken="0"', dom)
        assert int(re.search(r'data-images="(\d+)"', dom)[1]) == len(Page(text).images)
        assert 'data-wide="false"' in dom, f"the page is wider than a window of {width} px"


def browse(page: Path, folder: Path, width: int) -> str:
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    command += [
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=5000",
    ]
    words = [*command, "--dump-dom", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment(folder))
    return done.stdout
