"""The report of an evaluation of a model with its own classes, and the comparison of models."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from tests.helpers import fresh, sample
from train.cli import main
from train.export.onnx_file import set_metrics
from worker.inference.classifier import Classifier
from worker.inference.prepare import PREPARATION

CLASSES = ("hand", "foot", "skull")
LEFT_OUT = {
    "1.0": {"score": 0.5, "by_source": {"wrong one": {"n": 1, "accuracy": 0.1}}},
    "0.1": {
        "score": 0.9,
        "f1_left_out_sources": {"hand": 0.8123},
        "f1_left_out_patients": {"clinic": {"foot": 0.7}},
        "by_source": {"clinic": {"n": 40, "accuracy": 0.9}},
    },
}


def write_model(path: Path, classes: tuple[str, ...] = CLASSES, slope: float = 40.0) -> Path:
    """A model whose predicted class depends on the bright share of a picture: the larger, the later the class."""
    centres = np.linspace(0.2, 0.8, len(classes))
    # Softmax of 2cx - c² equals that of -(x - c)², so the class with the nearest centre is predicted.
    weights, bias = 2 * slope * centres[None], -slope * centres**2
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(classes)])],
        [
            onnx.numpy_helper.from_array(values.astype(np.float32), name)
            for name, values in (("weights", weights), ("bias", bias))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    terms = {"title": "-", "body_part_examined": "", "snomed_ct": "", "header_terms": []}
    values = {
        "classes": [{"name": name, **terms} for name in classes],
        "input": {"size": 32, "channels": 1, "mean": 0.0, "std": 1.0, "preparation": PREPARATION},
        "calibration": {
            "temperature": 0.5,
            "thresholds": dict.fromkeys(classes, 0.7),
            "unsupported": [classes[-1]],
            "accuracy": 0.995,
        },
        "training_data": {"images": 7, "by_class": {}, "sources": {"clinic": {"images": 7, "licences": []}}},
        "metrics": {"validation": LEFT_OUT},
    }
    properties = {key: json.dumps(value) for key, value in values.items()}
    helper.set_model_props(model, {"name": path.stem, "version": "1", "licence": "none", **properties})
    onnx.save(model, path)
    return path


def picture(share: float, random: np.random.Generator) -> np.ndarray:
    """A picture with this bright share."""
    return ((random.random((40, 40)) < share) * 200 + 20).astype(np.uint8)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    lines = ["file,class,split,dataset,patient"]
    for label, name in enumerate(CLASSES):
        for index in range(12):
            share = (0.2, 0.5, 0.8)[label] + random.normal(0, 0.08)
            cv2.imwrite(str(folder / f"{name}-{index}.png"), picture(share, random))
            lines.append(f"{name}-{index}.png,{name},test,{'clinic' if index % 2 else '<b>ward</b>'},{index // 4}")
    # A mislabelled image, and a file that cannot be read.
    cv2.imwrite(str(folder / "mislabelled.png"), picture(0.8, random))
    (folder / "broken.png").write_bytes(b"\x89PNG broken")
    lines += ["mislabelled.png,hand,test,clinic,", "broken.png,foot,test,clinic,"]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chest, a leg, a file without pixels, a CT, and a manifest with their body parts."""
    folder = tmp_path_factory.mktemp("dicom")
    (folder / "chest.dcm").write_bytes(fresh("RG1_J2KI.dcm", BodyPartExamined="CHEST"))
    (folder / "leg.dcm").write_bytes(sample("RG3_J2KI.dcm").read_bytes())
    (folder / "empty.dcm").write_bytes(fresh("RG3_UNCI.dcm", PixelData=b""))
    (folder / "ct.dcm").write_bytes(fresh("CT_small.dcm"))
    (folder / "manifest.csv").write_text("file,body part\nleg.dcm,lower leg & ankle\n")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def evaluate(model: Path, manifest: Path, out: Path, *more: object) -> dict[str, object]:
    done = run("evaluate", "--model", model, "--manifest", manifest, "--out", out, *more)
    assert done.exit_code == 0, done.output
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def evaluated(manifest: Path, dicom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(write_model(folder / "brightness.onnx"), manifest, folder, "--dicom", dicom)
    return folder


class Page(HTMLParser):
    """A parsed page for the tests."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "path", "use", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("path", "use", "rect"):
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_classes_of_a_report_are_those_of_the_model(evaluated: Path) -> None:
    figures = json.loads((evaluated / "metrics.json").read_text())
    assert figures["confusion"]["classes"] == list(CLASSES)
    assert set(figures["macro_f1"]) == {"value", "low", "high"}
    assert "adult_pediatric_balanced_accuracy" not in figures
    assert figures["model"]["name"] == "brightness"
    assert figures["model"]["parameters"] == 6
    assert "three classes" in (evaluated / "metrics.md").read_text()


def test_a_label_that_the_model_does_not_know_is_named(evaluated: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,class\na.png,spine\n")
    done = run(
        "evaluate", "--model", evaluated / "brightness.onnx", "--manifest", tmp_path / "m.csv", "--out", tmp_path
    )
    assert done.exit_code == 2
    assert "unknown class 'spine'; known are hand, foot, skull" in done.output


def test_an_unreadable_image_is_counted_and_the_others_are_measured(evaluated: Path) -> None:
    figures = json.loads((evaluated / "metrics.json").read_text())
    assert (figures["n"], figures["unreadable"]) == (37, {"CorruptPixels": 1})


def test_the_report_loads_no_external_files(evaluated: Path) -> None:
    text = (evaluated / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(str(element["src"]).startswith("data:image/jpeg;base64,") for element in page.all("img"))
    assert all(str(element["href"]).startswith("#") for element in page.all("a"))
    assert all(str(element["xlink:href"]).startswith("#") for element in page.all("use"))
    assert not re.search(r"(url\(|@import).{0,9}(https?:|//)", text)


def test_the_report_is_accessible_to_screen_readers(evaluated: Path) -> None:
    page = Page((evaluated / "report.html").read_text())
    assert all(element.get("alt") for element in page.all("img"))
    assert all(element.get("scope") for element in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {str(element["href"])[1:] for element in page.all("a")} <= set(identifiers)
    # SVG pictures are hidden from screen readers, since the text beside them describes them.
    assert len(page.all("svg")) == len(page.all("figcaption")) == 3
    assert all(element["aria-hidden"] == "true" for element in page.all("svg"))


def test_the_report_shows_calibration_abstention_and_left_out_sources(evaluated: Path) -> None:
    figures = json.loads((evaluated / "metrics.json").read_text())
    calibration = figures["calibration"]
    assert calibration["temperature"] == 0.5
    assert calibration["before"]["ece"] != calibration["after"]["ece"] == figures["ece"]
    assert figures["risk_coverage"]["curve"][-1][0] == 1
    assert figures["abstention"]["hand"]["threshold"] == 0.7
    assert figures["left_out"] == LEFT_OUT["0.1"]  # the best of the two that were tried
    text = (evaluated / "report.html").read_text()
    assert "For <strong>skull</strong> there were too few such predictions" in text
    assert "0.812" in text
    assert "wrong one" not in text


def test_text_of_a_manifest_is_escaped(evaluated: Path) -> None:
    text = (evaluated / "report.html").read_text()
    assert "&lt;b&gt;ward&lt;/b&gt;" in text
    assert "<b>ward" not in text


def test_the_worst_mistake_is_shown_with_its_predicted_class(evaluated: Path) -> None:
    text = (evaluated / "report.html").read_text()
    mistakes = text[text.index('id="mistakes"') : text.index('id="dicom"')]
    first = mistakes[mistakes.index("<li>") : mistakes.index("</li>")]
    assert "predicted as skull" in first
    assert "answered: skull" in first
    assert "truth: hand" in first
    assert "mislabelled.png" in first


def test_dicom_files_are_shown_with_their_verdict_or_error(evaluated: Path) -> None:
    text = (evaluated / "report.html").read_text()
    section = text[text.index('id="dicom"') :]
    assert "shows: lower leg &amp; ankle" in section
    assert "header: CHEST" in section
    assert "NotAnXRay: (0008,0060) Modality is &#39;CT&#39;" in section
    dicom = json.loads((evaluated / "metrics.json").read_text())["dicom"]
    assert dicom["files"] == 4
    assert dicom["outcomes"]["not_an_xray"] == dicom["outcomes"]["failed"] == 1
    assert dicom["images"]["dicom"] == 2
    for figures in dicom["looks"].values():
        assert set(figures) == {"mean", "standard deviation", "5th percentile", "median", "95th percentile"}
        assert all(figure["low"] <= figure["median"] <= figure["high"] for figure in figures.values())
    assert sum(dicom["tones"]["dicom"]) == pytest.approx(1, abs=1e-3)


def test_a_report_without_images_has_no_picture_and_no_file_name(
    evaluated: Path, manifest: Path, dicom: Path, tmp_path: Path
) -> None:
    evaluate(evaluated / "brightness.onnx", manifest, tmp_path, "--dicom", dicom, "--no-images")
    text = (tmp_path / "report.html").read_text()
    assert "data:image" not in text
    assert not re.search(r"[\w-]+\.(png|dcm)", text)
    assert "Figures only." in text
    assert "This page contains patient data." in (evaluated / "report.html").read_text()
    # The table still contains the worst mistake.
    row = int(re.findall(r'<th scope="row">(\d+)</th><td class="text">clinic', text)[0])
    table = (tmp_path / "predictions.csv").read_text().splitlines()
    assert table[row - 1].startswith("mislabelled.png,")


def test_a_folder_without_dicom_files_is_refused(evaluated: Path, manifest: Path, tmp_path: Path) -> None:
    done = run(
        *("evaluate", "--model", evaluated / "brightness.onnx", "--manifest", manifest, "--out", tmp_path / "out"),
        *("--dicom", tmp_path),
    )
    assert done.exit_code == 2
    assert "holds no DICOM file" in done.output


def test_left_out_figures_of_another_run_are_refused(evaluated: Path, manifest: Path, tmp_path: Path) -> None:
    foreign = {"calibration": {"temperature": 9}, "chosen_decay": 1.0, "decays": LEFT_OUT}
    (tmp_path / "other.json").write_text(json.dumps(foreign))
    base = ("evaluate", "--model", evaluated / "brightness.onnx", "--manifest", manifest, "--out", tmp_path)
    done = run(*base, "--validation", tmp_path / "other.json")
    assert done.exit_code == 2
    assert "its calibration is not that of" in done.output
    metadata = {entry.key: entry.value for entry in onnx.load(evaluated / "brightness.onnx").metadata_props}
    own = {**foreign, "calibration": json.loads(metadata["calibration"])}
    (tmp_path / "own.json").write_text(json.dumps(own))
    assert run(*base, "--validation", tmp_path / "own.json").exit_code == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["left_out"] == LEFT_OUT["1.0"]


def test_recorded_figures_leave_those_of_left_out_sources_in_the_model_file(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    set_metrics(model, {"n": 12})
    assert Classifier(model, "cpu").card.metrics == {"validation": LEFT_OUT, "n": 12}


def test_predictions_are_listed_with_their_probabilities(evaluated: Path) -> None:
    with (evaluated / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 37
    assert list(rows[0]) == ["file", "group", "truth", "predicted", "answered", "p_hand", "p_foot", "p_skull"]
    assert rows[0]["group"] == rows[2]["group"] != rows[1]["group"]  # patient 0 of the ward, and of the clinic
    assert sum(float(rows[0][f"p_{label}"]) for label in CLASSES) == pytest.approx(1, abs=1e-5)


def test_models_are_compared_with_paired_differences(evaluated: Path, manifest: Path, tmp_path: Path) -> None:
    # A similar model, and a model with reversed classes.
    evaluate(write_model(tmp_path / "steeper.onnx", slope=60), manifest, tmp_path / "steeper")
    evaluate(write_model(tmp_path / "turned.onnx", CLASSES[::-1]), manifest, tmp_path / "turned")
    (tmp_path / "speed.csv").write_text(
        "model,batch,images_per_second\nsteeper,1,10.5\nsteeper,8,31.25\nsteeper,16,\nunknown,1,5\n"
    )
    folders = [evaluated, tmp_path / "steeper", tmp_path / "turned"]
    done = run("compare", *folders, "--out", tmp_path / "table.csv", "--speed", tmp_path / "speed.csv")
    assert done.exit_code == 0, done.output
    with (tmp_path / "table.csv").open() as file:
        first, steeper, turned = csv.DictReader(file)
    assert first["model"] == "brightness 1"
    assert "adult against child" not in first  # no model has it
    assert (first["images/s"], steeper["images/s"]) == ("", "31.2")
    paired = "macro-F1 to the first, paired"
    assert first[paired] == ""
    assert steeper[paired] == "+0.000 (+0.000 to +0.000)"  # the same answers
    assert turned[paired] == ""  # other classes in another order: not to be compared
    assert run("compare", *folders[:2], "--out", tmp_path / "table.md").exit_code == 0
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert [line.count("|") for line in lines] == [lines[0].count("|")] * 4


def test_a_paired_difference_is_narrower_than_the_two_intervals(tmp_path: Path) -> None:
    """A model that is better on few images has a significant paired difference, though the intervals overlap."""
    from train.measure.compare import difference, read_result

    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 600)
    worse = np.where(random.random(600) < 0.7, truth, (truth + 1) % 3)
    better = np.where(random.random(600) < 0.1, truth, worse)
    for name, predicted in (("worse", worse), ("better", better)):
        (tmp_path / name).mkdir()
        figures = {"model": {"name": name, "version": "1"}, "macro_f1": None, "confusion": {"classes": CLASSES}}
        (tmp_path / name / "metrics.json").write_text(json.dumps(figures))
        rows = [f"{i}.png,{i},{CLASSES[a]},{CLASSES[b]}" for i, (a, b) in enumerate(zip(truth, predicted))]
        random.shuffle(rows)  # paired by file, whatever the order
        (tmp_path / name / "predictions.csv").write_text("file,group,truth,predicted\n" + "\n".join(rows) + "\n")
    found = difference(*(read_result(tmp_path / folder) for folder in ("worse", "better")))
    assert found is not None
    gained = (better == truth).mean() - (worse == truth).mean()
    assert found["value"] == pytest.approx(gained, abs=0.01)
    assert 0 < found["low"] < found["value"] < found["high"] < 2.2 * found["value"]


@pytest.mark.parametrize("text", [None, "{}", "nothing"])
def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
    done = run("compare", tmp_path, "--out", tmp_path / "table.md")
    assert done.exit_code == 2
    assert "not the metrics of an evaluation" in done.output
    assert not (tmp_path / "table.md").exists()


def test_a_table_of_speeds_without_its_columns_is_refused(evaluated: Path, tmp_path: Path) -> None:
    (tmp_path / "speed.csv").write_text("recipe,seconds\na,1\n")
    done = run("compare", evaluated, "--out", tmp_path / "table.md", "--speed", tmp_path / "speed.csv")
    assert done.exit_code == 2
    assert "needs the columns 'model' and 'images_per_second'" in done.output


def test_every_file_of_a_difficult_folder_gets_a_verdict_or_a_reason(shared: Path, tmp_path: Path) -> None:
    """Memory bombs, broken streams and other modalities do not stop the report."""
    from train.measure.looks import judge_folder

    classifier = Classifier(write_model(tmp_path / "model.onnx"), "cpu")
    listed = pd.read_csv(shared / "data/dicom/manifest.csv", dtype=str)["file"]
    exhibits = judge_folder(shared / "data/dicom", classifier)
    assert sorted(exhibit.file for exhibit in exhibits) == sorted(listed)
    assert all(exhibit.look is not None or exhibit.verdict.error is not None for exhibit in exhibits)
    outcome = {exhibit.file: exhibit.verdict.outcome for exhibit in exhibits}
    assert outcome["oob-monochrome-65535.dcm"] in ("failed", "not_an_xray")
    assert outcome["cr-hip-jpeg-ext12.dcm"] in ("judged", "review")
    assert outcome["ct-small.dcm"] == "not_an_xray"
