"""The page in Firefox: it speaks, is interrupted, marks words, and is accessible there, too."""

from __future__ import annotations

import pytest

from antiphon.serve.settings import ServeConfig
from tests.clients.axe import script
from tests.clients.firefox import firefox
from tests.serve.scripted import Scripted, serving

pytestmark = pytest.mark.slow

WORDS = [f"word{n}" for n in range(60)]
STATE = "document.querySelector('#state').dataset.state"


def test_a_conversation_in_firefox(tmp_path):
    axe = script()
    backend = Scripted(WORDS, frames=3, hears="A tone")
    with serving(backend, ServeConfig(port=0)) as (address, _), firefox(tmp_path) as browser:
        browser.size(390, 844)
        browser.open(f"http://{address}/")
        browser.until("document.querySelectorAll('#examples button').length === 3")
        browser.evaluate(f"(() => {{ {axe} }})()")
        violations = "axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes[0].html]))"
        assert browser.evaluate(violations) == []
        browser.evaluate("document.querySelector('#examples button').click()")
        browser.until(f"{STATE} === 'model'")
        browser.until("CSS.highlights.get('sounding').size > 0")
        browser.size(1280, 800)
        assert browser.evaluate(violations) == []
        browser.evaluate("document.querySelector('#stop').click()")
        browser.until("document.querySelector('.turn.model .unsaid')?.textContent.includes('word59')")
        said = browser.evaluate("document.querySelector('.turn.model .text').textContent").split()
        assert 0 < len(said) < 60 and said == WORDS[: len(said)]
        browser.evaluate("document.querySelector('#talk').click()")  # its microphone hears a tone without end
        browser.until(f"{STATE} === 'you'")
        browser.evaluate("document.querySelector('#end').click()")
        browser.until(f"{STATE} === 'idle'")
        browser.evaluate("document.querySelector('#open-settings').click()")
        assert browser.evaluate(violations) == []
        assert browser.troubles == []
