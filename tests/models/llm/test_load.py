"""Another package's language model is opened without a line here: by an entry point, or by its folder's config.json."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from antiphon.errors import ModelError
from antiphon.models.llm.llama import Llama
from antiphon.models.llm.load import causal_lm_class
from antiphon.models.llm.thinker import Thinker
from tests.models.llm.test_thinker import TEMPLATE, make_llm

# Unlike a Llama it thinks the least likely token: what matters is who is asked for it.
SOURCE = """
from antiphon.models.llm.llama import Llama


class Echo:
    def __init__(self, inner):
        self.inner, self.width, self.context = inner, inner.width, 3000

    @classmethod
    def from_pretrained(cls, folder):
        import json, pathlib, tempfile, shutil
        copy = pathlib.Path(tempfile.mkdtemp())
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        config = json.loads((copy / "config.json").read_text()) | {"model_type": "llama"}
        (copy / "config.json").write_text(json.dumps(config))
        return cls(Llama.from_pretrained(copy))

    @staticmethod
    def published_name(linear):
        return linear

    def init_cache(self, batch=1):
        return self.inner.init_cache(batch)

    def embed(self, tokens):
        return self.inner.embed(tokens)

    def __call__(self, x, cache=None, lora=None, counts=None):
        return self.inner(x, cache, lora, counts)

    def logits(self, hidden):
        return self.inner.logits(-hidden)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch) -> Path:
    """An installed distribution of one module, and a model's folder of its kind: two files and a config.json."""
    site = tmp_path / "site"
    (site / "echo_lm-1.0.dist-info").mkdir(parents=True)
    (site / "echo_lm.py").write_text(SOURCE)
    (site / "echo_lm-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-lm\nVersion: 1.0\n")
    (site / "echo_lm-1.0.dist-info" / "entry_points.txt").write_text("[antiphon.causal_lm]\necho = echo_lm:Echo\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "echo_lm", raising=False)
    folder = tmp_path / "model"
    folder.mkdir()
    make_llm(folder, TEMPLATE)
    return folder


@pytest.mark.parametrize("named", [{"model_type": "echo"}, {"family": "echo_lm:Echo"}])
def test_a_family_is_added_by_another_package(package: Path, named: dict) -> None:
    path = package / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    thinker = Thinker.from_pretrained(package)
    assert type(thinker.model).__name__ == "Echo" and thinker.model.context == 3000
    state = thinker.init_state()
    thinker.add_user(state, "Hello?")
    tokens = [token.token for token in thinker.stream(state, 5)]
    hidden = thinker.model.embed(torch.tensor(thinker.tokenizer.encode("x").ids))
    assert tokens and thinker.model(hidden[None]).shape == (1, 1, thinker.model.width)
    assert thinker.reply_many(["Hello?", "And a longer one?"], max_tokens=5)[0] == thinker.reply("Hello?", max_tokens=5)


def test_what_is_known_is_told(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    with pytest.raises(ModelError, match="cannot read"):
        causal_lm_class(tmp_path)
    config.write_text(json.dumps({"model_type": "llama"}))
    assert causal_lm_class(tmp_path) is Llama
    config.write_text(json.dumps({"model_type": "mumbo"}))
    with pytest.raises(ModelError, match="holds a mumbo, which is no causal language model"):
        causal_lm_class(tmp_path)
    config.write_text(json.dumps({"family": "not_there:Model"}))
    with pytest.raises(ModelError, match="install its package"):
        causal_lm_class(tmp_path)
