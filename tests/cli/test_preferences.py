"""`antiphon data preferences`: mined from the command line; results on stdout and nothing else."""

import json

import pytest
from typer.testing import CliRunner

from antiphon.cli.data import app
from antiphon.cli.preferences import weights
from antiphon.data.describe import describe
from antiphon.errors import ConfigError
from tests.data.preferences.test_pairs import mined

run = CliRunner()


def test_pairs_are_chosen_anew_by_other_measures(tmp_path):
    mined(tmp_path)
    result = run.invoke(app, ["preferences", "pairs", str(tmp_path), "--rank", "wer=-1", "--most", "1"])
    assert result.exit_code == 0 and result.stdout == f"{tmp_path / 'pairs.jsonl'}\n"
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [line["chosen"]["id"] for line in lines] == ["0-0", "1-0"]  # now the worst is best


def test_a_set_of_samples_is_described(tmp_path):
    mined(tmp_path)
    run.invoke(app, ["preferences", "pairs", str(tmp_path)])
    told = dict(describe(tmp_path))
    assert told["prompts"] == "3" and told["samples"] == "9" and told["pairs"] == "4"
    assert told["wer"] == "0.6667 on average, 0.5 to 0.8333 within a prompt"


def test_ranks():
    assert weights(["wer=1", "dnsmos=-0.1"]) == {"wer": 1.0, "dnsmos": -0.1}
    with pytest.raises(ConfigError, match="MEASURE=WEIGHT"):
        weights(["wer"])
