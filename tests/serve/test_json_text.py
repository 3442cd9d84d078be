"""JSON from strangers: what counts as text, where it is too much, and what is no JSON or no Unicode."""

from __future__ import annotations

import json

import pytest

from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import MAX_DEPTH, MAX_FIELDS, TextMeter, check_text, path_at_end, read_json

SOUND = "QUJD" * 25_000


def fed(document: object, most: int, step: int = 65536) -> None:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    meter = TextMeter(most)
    for start in range(0, len(data), step):
        meter.feed(data[start : start + step])


@pytest.mark.parametrize("step", [1, 2, 7, 50, 1000, 10**6])
def test_sound_does_not_count_however_it_is_cut(step):
    parts = [{"input_audio": {"data": SOUND, "format": "wav"}}, {"data": ""}, {"audio": "AAAA"}, {"audio": {"a": 1}}]
    document = {"messages": [{"role": "user", "content": parts}]}
    text = len(json.dumps(document)) - len(SOUND) - 4
    fed(document, text, step)
    with pytest.raises(RequestError):
        fed(document, text - 1, step)


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"input": "x" * 2000}, "input"),
        ({"messages": [{"content": "a"}, {"role": "user", "content": SOUND}]}, "messages[1].content"),
        ({"messages": [{"content": [{"text": "a"}, {"text": "é" * 1000}]}]}, "messages[0].content[1].text"),
        ({"data": "A" * 50 + " text " * 1000}, "data"),  # what is no base64 is no sound
        ({'"data": "': 'x\\"data": "' + "A" * 2000}, '\\"data\\": \\"'),  # nor is what is quoted
        ({"metadata": {str(n): "x" for n in range(500)}}, None),
        (b"[" * 2000, None),
    ],
)
def test_too_much_text_is_refused_by_the_name_of_its_field(document, param):
    with pytest.raises(RequestError) as caught:
        fed(document, 1000)
    assert caught.value.code == "string_above_max_length" and "1000 bytes" in caught.value.message
    if param is not None:
        assert caught.value.param == param and param in caught.value.message


def test_it_is_refused_before_it_is_all_there():
    meter = TextMeter(1000)
    meter.feed(b'{"input": "')
    with pytest.raises(RequestError):
        for _ in range(3):
            meter.feed(b"x" * 500)
    assert len(meter._text) == 1001  # no more is kept


def test_texts_of_a_whole_document():
    check_text(json.dumps({"audio": SOUND}), 1000)
    with pytest.raises(RequestError):
        check_text(json.dumps({"text": SOUND}), 1000)


def test_the_place_where_a_document_breaks_off():
    assert path_at_end(b'{"a": [1, [2, {"b": {}, "c,:[": "x\\"') == "a[1][1].c,:["
    assert path_at_end(b"") == ""


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ('{"a": ["x", {"b": "\\ud800"}]}', "a[1].b"),
        ('{"a": {"\\udc00k": 1}}', "a.?k"),
        ('{"a": "\\ude00\\ud83d"}', "a"),
        ('{"a": "\ud800"}', "a"),
        ('{"a": {"b": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}}", "a"),
    ],
)
def test_what_is_no_unicode_or_too_deep_is_refused_by_the_name_of_its_field(text, param):
    with pytest.raises(RequestError) as caught:
        read_json(text)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"a": Infinity}', "1e999", "[" * 100_000, "1" * 5000, "'a'", '{"a": 1} b']
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(RequestError) as caught:
        read_json(text)
    assert (caught.value.code, caught.value.param) == ("invalid_json", None)


def test_an_object_has_no_more_fields_than_can_be_told_of():
    assert len(read_json(json.dumps({str(n): n for n in range(MAX_FIELDS)}))) == MAX_FIELDS
    with pytest.raises(RequestError, match="fields"):
        read_json(json.dumps({"a": [{str(n): n for n in range(MAX_FIELDS + 1)}]}))


def test_what_is_unicode_is_taken():
    said = {"a": "\U0001f600 \u0000 \uffff", "b": [1.5, -3, None, True]}
    assert read_json(json.dumps(said)) == said == read_json(json.dumps(said, ensure_ascii=False))
