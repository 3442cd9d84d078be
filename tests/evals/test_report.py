"""Figures, their bars, and reports that survive being written, read and drawn."""

import io
import json

import pytest

from antiphon.errors import EvalError
from antiphon.evals.machine import environment
from antiphon.evals.plots import draw_report
from antiphon.evals.report import Figure, Report, number, write_json


def figure(name="say-wer", value=0.1, bar="<= 0.12", reference=0.03, n=100):
    return Figure(name, value, "WER", bar, reference, n)


@pytest.mark.parametrize(
    ("value", "bar", "met"),
    [
        (0.12, "<= 0.12", True),
        (0.1201, "<= 0.12", False),
        (-0.4, ">= -0.4", True),
        (-0.41, ">= -0.4", False),
        (1.0, ">= 1.0", True),
        (float("nan"), ">= 0.5", False),
        (7.0, None, None),
    ],
)
def test_a_bar_is_met_on_its_own_side(value, bar, met):
    assert figure(value=value, bar=bar).met is met


@pytest.mark.parametrize("broken", [{"name": "Say WER"}, {"name": "say_wer"}, {"bar": "< 0.1"}, {"bar": "0.1"}])
def test_a_figure_that_no_program_could_read_is_refused(broken):
    with pytest.raises(ValueError):
        figure(**broken)


def test_report_writes_the_agreed_json_and_reads_it_back(tmp_path):
    report = Report([figure(), figure("first-audio-s", 0.4, "<= 1.0", None, 30)], environment())
    path = report.save(tmp_path / "deep" / "figures.json")
    data = json.loads(path.read_text())
    assert set(data) == {"figures", "environment"}
    assert data["figures"][0] == {
        "name": "say-wer", "value": 0.1, "unit": "WER", "bar": "<= 0.12", "reference": 0.03, "n": 100,
    }  # fmt: skip
    assert data["figures"][1]["reference"] is None
    assert {"python", "cpu", "cores", "threads", "versions"} <= set(data["environment"])
    assert Report.load(path).figures == report.figures
    assert [p.name for p in path.parent.iterdir()] == ["figures.json"]


def test_a_link_is_written_through_and_a_place_that_cannot_be_is_told(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_json(tmp_path / "link", {"\u00fc": 1})
    assert (tmp_path / "link").is_symlink() and json.loads((tmp_path / "file").read_text()) == {"\u00fc": 1}
    with pytest.raises(EvalError, match="f.json could not be written"):
        Report().save(tmp_path / "file" / "f.json")


def test_a_figure_measured_again_takes_its_old_place():
    report = Report([figure("a", 1.0), figure("b", 2.0)])
    report.add(figure("a", 3.0))
    assert [(f.name, f.value) for f in report.figures] == [("a", 3.0), ("b", 2.0)]


@pytest.mark.parametrize("content", ["", "{", '{"figures": []}', '{"figures": [{"name": "a"}], "environment": {}}'])
def test_a_file_that_is_no_report_is_told_so(tmp_path, content):
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(EvalError, match="figures.json"):
        Report.load(path)


def test_table_shows_every_figure_and_marks_the_missed(tmp_path):
    out = io.StringIO()
    Report([figure(), figure("codec-stoi", 0.9, ">= 0.92", 1.0)]).print(out)
    rows = [line for line in out.getvalue().splitlines() if "-" in line]
    assert any("say-wer" in row and "0.100" in row and "ok" in row for row in rows)
    assert any("codec-stoi" in row and "missed" in row for row in rows)


def test_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from PIL import Image

    report = Report([figure(), figure("b", -0.2, ">= -0.4"), figure("c", 3.0, None, None), figure("d", float("nan"))])
    width, height = Image.open(draw_report(report, tmp_path / "figures.png")).size
    assert width > 500 and height > 200
    with pytest.raises(EvalError):
        draw_report(Report([figure(value=float("nan"))]), tmp_path / "none.png")


def test_numbers_are_short():
    values = (None, 0.12345, 12.0, 2.0, -0.4, float("nan"))
    assert [number(value) for value in values] == ["-", "0.123", "12", "2.000", "-0.400", "nan"]
