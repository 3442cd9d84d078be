"""The page without a browser: its files, what they promise, and its arithmetic. `test_page_talk.py` opens it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted

PAGE = ServeConfig().page
FILES = sorted(path.name for path in PAGE.iterdir())
MOST_BYTES = 150_000  # of the page: all that a browser fetches
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MENTIONED = {"http://www.w3.org/2000/svg", "http://localhost"}  # names, not places that anything is fetched from


class Elements(HTMLParser):
    """All elements: (tag, attributes, text inside)."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        entry = (tag, {name: value or "" for name, value in attributes}, [])
        self.found.append(entry)
        if tag not in ("meta", "link", "img", "input", "rect", "path", "use"):
            self.open.append(entry[2])

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, {name: value or "" for name, value in attributes}, []))

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        for texts in self.open:
            texts.append(data)

    def all(self, *tags):
        return [(attributes, "".join(texts).strip()) for tag, attributes, texts in self.found if tag in tags]


@pytest.fixture(scope="module")
def html() -> Elements:
    return Elements((PAGE / "index.html").read_text())


@pytest.mark.parametrize("name", ["", *FILES])
def test_every_file_is_served_as_what_it_is(name):
    with TestClient(create_app(Scripted(), ServeConfig()), base_url="http://127.0.0.1:8000") as client:
        response = client.get(f"/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == TYPES[Path(name or "index.html").suffix]
    assert response.content == (PAGE / (name or "index.html")).read_bytes()


def test_nothing_comes_from_elsewhere():
    for name in FILES:
        text = (PAGE / name).read_text()
        assert set(re.findall(r"\w+://[\w./]*\w", text)) <= MENTIONED, name
        assert not re.search(r"""(["'(]|url\()//""", text), name


def test_every_import_and_link_is_there(html):
    for name in FILES:
        if name.endswith(".js"):
            text = (PAGE / name).read_text()
            imported = re.findall(r'from "\./([^"]+)"|new URL\("([^"]+\.js)"', text)
            assert {first or second for first, second in imported} <= set(FILES), name
    linked = [entry.get("src") or entry.get("href") for entry, _ in html.all("script", "link", "img")]
    assert linked and set(linked) <= set(FILES)


def test_the_policy_forbids_everything_else_and_the_page_keeps_to_it(html):
    (policy,) = [entry["content"] for entry, _ in html.all("meta") if entry.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert set(rules.values()) <= {"'none'", "'self'"}
    for tag, entry, texts in html.found:
        assert not any(name.startswith("on") or name == "style" for name in entry), entry
        assert tag != "style"
        assert tag != "script" or not "".join(texts).strip()
    for name in FILES:  # text from a server or a user is never read as HTML
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", (PAGE / name).read_text()
        )


def test_every_control_has_a_name(html):
    labelled = {entry.get("for") for entry, _ in html.all("label")}
    fields = [entry for entry, _ in html.all("input", "select", "textarea")]
    assert fields and all(entry["id"] in labelled for entry in fields)
    buttons = html.all("button")
    assert buttons and all(text or entry.get("aria-label") for entry, text in buttons)
    assert all(entry.get("type") in ("button", "submit") for entry, _ in buttons)
    identities = [entry["id"] for _, entry, _ in html.found if "id" in entry]
    assert len(identities) == len(set(identities))
    for _, entry, _ in html.found:
        for name in ("for", "aria-labelledby", "aria-describedby", "popovertarget"):
            assert name not in entry or entry[name] in identities
        assert "href" not in entry or not entry["href"].startswith("#") or entry["href"][1:] in identities
    wanted = set(re.findall(r'\bat\("([^"]+)"\)', (PAGE / "app.js").read_text()))
    assert wanted and wanted <= set(identities)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_on_their_ground(scheme):
    light, dark = re.findall(r":root \{(.*?)\}", (PAGE / "style.css").read_text(), re.S)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if scheme == "light" else dark))
    words = [(ink, ground) for ink in ("ink", "faint") for ground in ("ground", "card", "tint")]
    words += [(ink, ground) for ink in ("main", "warn") for ground in ("ground", "card")]
    words += [("ink", "warn-tint"), ("ink", "mark"), ("on-main", "main"), ("on-hang-up", "hang-up"), ("card", "ink")]
    shapes = [(ink, ground) for ink in ("edge", "focus", "hang-up") for ground in ("ground", "card")]
    for ink, ground in words + shapes:
        above, below = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        assert (above + 0.05) / (below + 0.05) >= (4.5 if (ink, ground) in words else 3), (ink, ground)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_it_is_small(language):
    fetched = [name for name in FILES if not name.startswith("words-") or name == f"words-{language}.js"]
    assert sum((PAGE / name).stat().st_size for name in fetched) <= MOST_BYTES


def test_the_file_says_what_the_english_words_say(html):
    """Whoever has another language sees the file's words for a moment, and English is never put in."""
    text = (PAGE / "words-en.js").read_text()
    english = {name: json.loads(said) for name, said in re.findall(r'^  (\w+):\s+("(?:[^"\\]|\\.)*"),$', text, re.M)}
    checked = 0
    for _, entry, texts in html.found:
        shown = {
            "data-say": " ".join("".join(texts).split()),
            "data-say-label": entry.get("aria-label"),
            "data-say-placeholder": entry.get("placeholder"),
        }
        for name in shown.keys() & entry.keys():
            assert shown[name] == english[entry[name]], entry
            checked += 1
    assert checked > 60
    for name in FILES:
        if name.endswith(".js"):
            said = re.findall(r'\bsay\(\s*"(\w+)"', (PAGE / name).read_text())
            assert set(said) <= set(re.findall(r"^  (\w+):", text, re.M)), name


def test_the_modules_arithmetic_and_manners(tmp_path):
    """Buffer, resampler, wav and what is made of the server's events, run by Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node to run the page's modules with")
    tests = list((Path(__file__).parent / "page").glob("*.test.mjs"))
    for path in [*PAGE.glob("*.js"), *tests]:
        shutil.copy(path, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    names = [path.name for path in tests]
    done = subprocess.run([node, "--test", *names], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# fail 0$|^ℹ fail 0$", done.stdout, re.M) and not re.search(
        r"^(#|ℹ) pass 0$", done.stdout, re.M
    )
