"""Answers in JSON, how likely their tokens were, and strict functions: by OpenAI's own client and its own types."""

from __future__ import annotations

import json
from typing import Literal

import pytest
import torch
from pydantic import BaseModel
from starlette.testclient import TestClient

from antiphon.dialogue.events import EndEvent, TextChances, TextEvent
from antiphon.dialogue.half_duplex import HalfDuplexBackend
from antiphon.models.llm.grammar import is_installed
from antiphon.models.llm.thinker import Thinker
from antiphon.serve.app import create_app
from antiphon.serve.openai.stop_sequences import until_stop
from antiphon.serve.settings import ServeConfig
from tests.dialogue.pretended import CountingRecognizer, Hum
from tests.models.llm.test_chat_template import TOOLS
from tests.models.llm.test_thinker import make_llm
from tests.serve.openai.test_options import QUESTION, chat, told
from tests.serve.scripted import Scripted, serving

needs_library = pytest.mark.skipif(not is_installed(), reason="could not import 'llguidance'")


class Answer(BaseModel):
    """What is asked for: the client sends its schema, with "strict", and reads it back."""

    mood: Literal["happy", "sad"]
    reason: str
    marks: list[int]


class Wait(BaseModel):
    """Waits."""

    seconds: int
    then: Literal["go", "stop"]


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """A language model that knows nothing, and a voice that hums."""
    folder = tmp_path_factory.mktemp("llm")
    make_llm(folder, TOOLS)
    torch.manual_seed(0)
    return HalfDuplexBackend(CountingRecognizer(), Thinker.from_pretrained(folder), Hum())


@pytest.fixture(scope="module")
def client(backend):
    openai = pytest.importorskip("openai")
    with serving(backend, ServeConfig(port=0)) as (address, _):
        yield openai.OpenAI(api_key="x", base_url=f"http://{address}/v1", max_retries=0)


@pytest.fixture(scope="module")
def scripted():
    backend = Scripted()
    with TestClient(create_app(backend, ServeConfig()), base_url="http://127.0.0.1") as made:
        made.backend = backend
        yield made


# JSON


@needs_library
def test_the_clients_own_parser_reads_what_was_asked_for(client):
    for seed in range(2):
        done = client.chat.completions.parse(
            model="m", messages=QUESTION, response_format=Answer, temperature=1.5, seed=seed, max_completion_tokens=90
        )
        assert isinstance(done.choices[0].message.parsed, Answer) and done.choices[0].finish_reason == "stop"


@needs_library
def test_an_answer_in_json_is_streamed(client):
    how = {"model": "m", "messages": QUESTION, "response_format": Answer, "max_completion_tokens": 90}
    with client.chat.completions.stream(**how) as stream:
        kinds = {event.type for event in stream}
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Answer)
    assert "content.delta" in kinds


@needs_library
def test_any_json_object(client):
    form = {"type": "json_object"}
    done = client.chat.completions.create(
        model="m", messages=QUESTION, response_format=form, temperature=1.0, max_tokens=60
    )
    assert isinstance(json.loads(done.choices[0].message.content), dict)


def test_the_model_is_told_what_it_is_held_to(scripted):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form = {
        "type": "json_schema",
        "json_schema": {"name": "a", "description": "where", "schema": schema, "strict": True},
    }
    assert chat(scripted, response_format=form).status_code == 200
    asked = scripted.backend.answers[-1]
    assert json.loads(asked.how.schema) == schema and json.dumps(schema) in asked.instructions
    assert asked.how.max_tokens == 512 and asked.instructions.endswith("(where)")
    assert chat(scripted, response_format={"type": "text"}).status_code == 200
    assert scripted.backend.answers[-1].how.schema is None


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "missing_required_parameter", "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "missing_required_parameter",
         "response_format.json_schema.schema"),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
    ],
)  # fmt: skip
def test_a_form_that_makes_no_sense_is_refused_by_name(scripted, asked, code, param):
    assert told(chat(scripted, **asked)) == (400, "invalid_request_error", code, param)


@needs_library
def test_a_schema_that_cannot_be_kept_to_is_a_400_and_no_stream(backend):
    with TestClient(create_app(backend, ServeConfig()), base_url="http://127.0.0.1") as made:
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "objec"}}}
        for stream in (False, True):
            answer = chat(made, response_format=form, stream=stream)
            assert told(answer)[0::3] == (400, "response_format") and "objec" in answer.text


def test_a_model_that_answers_in_plain_text_alone_says_so():
    backend = Scripted(structured=False)
    with TestClient(create_app(backend, ServeConfig()), base_url="http://127.0.0.1") as made:
        for asked in ({"response_format": {"type": "json_object"}}, {"logprobs": True}, {"logit_bias": {"5": 1}}):
            (name,) = asked
            assert told(chat(made, **asked)) == (400, "invalid_request_error", "unsupported_parameter", name)


# Sampling


def test_how_an_answer_is_drawn_reaches_the_thinker(scripted):
    asked = {"top_p": 0.5, "temperature": 1, "presence_penalty": 0.5, "frequency_penalty": -1, "seed": 7}
    assert chat(scripted, **asked, logprobs=True, top_logprobs=2).status_code == 200
    thinking = scripted.backend.answers[-1].how.thinking
    assert (thinking.top_p, thinking.temperature, thinking.presence, thinking.frequency) == (0.5, 1.0, 0.5, -1.0)
    assert thinking.seed == 7 and thinking.top_chances == 2
    assert chat(scripted, top_p=0).status_code == 200 and chat(scripted).status_code == 200
    assert scripted.backend.answers[-1].how.thinking.top_chances is None


def test_a_bias_makes_a_token_certain_or_impossible(client, backend):
    how = {"model": "m", "messages": QUESTION, "max_tokens": 3}
    a, b = (str(backend.thinker.tokenizer.encode(letter, add_special_tokens=False).ids[0]) for letter in "ab")

    def said(**bias):
        return client.chat.completions.create(**how, logit_bias=bias).choices[0].message.content

    assert said(**{a: 100, b: 90}) == "aaa" and said(**{a: -100, b: 90}) == "bbb"
    end = str(min(backend.thinker.ends))
    whole = client.chat.completions.create(**how, logit_bias={end: 100}).choices[0]
    assert whole.message.content == "" and whole.finish_reason == "stop"
    openai = pytest.importorskip("openai")
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="no token 99999") as error:
            client.chat.completions.create(**how, logit_bias={"99999": 1}, stream=stream)
        assert error.value.param == "logit_bias"


# Several choices


@pytest.mark.parametrize("stream", [False, True])
def test_choices_are_what_their_seeds_give_and_the_question_is_counted_once(client, stream):
    def texts(seed, n):
        how = {"model": "m", "messages": QUESTION, "max_tokens": 8, "temperature": 1.5, "seed": seed, "n": n}
        if not stream:
            done = client.chat.completions.create(**how)
            assert [choice.index for choice in done.choices] == list(range(n))
            return [choice.message.content for choice in done.choices], done.usage
        said, usage, ended = [""] * n, None, []
        for chunk in client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True}):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                said[choice.index] += choice.delta.content or ""
                ended += [choice.index] if choice.finish_reason else []
        assert ended == list(range(n))
        return [text.strip() for text in said], usage

    three, usage = texts(4, 3)
    alone = [texts(4 + number, 1) for number in range(3)]
    assert three == [text for (text,), _ in alone] and len(set(three)) == 3
    assert usage.prompt_tokens == alone[0][1].prompt_tokens
    assert usage.completion_tokens == sum(each.completion_tokens for _, each in alone)


# Log probabilities


def test_how_likely_the_tokens_were_in_the_clients_own_types(client):
    how = {"model": "m", "messages": QUESTION, "max_tokens": 12, "logprobs": True}
    whole = client.chat.completions.create(**how, top_logprobs=3).choices[0]
    tokens = whole.logprobs.content
    said = b"".join(bytes(each.bytes) for each in tokens).decode(errors="ignore").strip()
    assert said == whole.message.content.replace("\ufffd", "").strip()  # a model that knows no whole characters
    for each in tokens:
        assert each.logprob <= 0 and len(each.top_logprobs) == 3
        assert each.token == each.top_logprobs[0].token  # greedy
    streamed = []
    for chunk in client.chat.completions.create(**how, stream=True):
        streamed += (chunk.choices[0].logprobs and chunk.choices[0].logprobs.content) or []
    assert [each.logprob for each in streamed] == pytest.approx([each.logprob for each in tokens], abs=1e-3)
    assert not any(each.top_logprobs for each in streamed)
    assert client.chat.completions.create(**how | {"logprobs": False}).choices[0].logprobs is None


def test_a_stop_sequence_ends_the_tokens_that_are_told_too():
    words = ["ab", " c", "d e", "f"]

    def events():
        for word in words:
            yield TextEvent(word, chances=(TextChances((word.encode(), -1.0)),))
        yield EndEvent("")

    def found(stop):
        given = [one for one in until_stop(events(), [stop]) if isinstance(one, TextEvent)]
        return "".join(one.text for one in given), [one.token[0].decode() for each in given for one in each.chances]

    assert found("zz") == ("abcd ef".replace("abc", "ab c"), words)
    assert found("d e") == ("ab c", words[:2])
    assert found(" e") == ("ab cd", words[:3])  # part of it was said
    assert found("ab") == ("", [])


# Strict functions


@needs_library
def test_a_strict_function_is_called_with_arguments_that_fit(client, backend):
    openai = pytest.importorskip("openai")
    tool = openai.pydantic_function_tool(Wait)
    assert tool["function"]["strict"] is True
    for seed in range(2):
        done = client.chat.completions.parse(
            model="m", messages=QUESTION, tools=[tool], tool_choice="required", temperature=1.5, seed=seed,
            max_completion_tokens=120, parallel_tool_calls=False,  # weights drawn at random never stop calling
        )  # fmt: skip
        choice = done.choices[0]
        assert choice.finish_reason == "tool_calls"
        for call in choice.message.tool_calls:
            assert isinstance(call.function.parsed_arguments, Wait)
