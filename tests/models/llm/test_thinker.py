"""The thinker: same tokens as `transformers`, conversations as values, text in whole characters, no loops."""

import json
import os
import random
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from antiphon.errors import ModelError, TooLongError
from antiphon.models.llm.chat_template import MARKS
from antiphon.models.llm.detokenizer import IncrementalDetokenizer, mark_tokens, token_bytes
from antiphon.models.llm.llama import Llama, LlamaConfig
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.llm.thinker import Thinker
from antiphon.models.lora import Lora, LoraConfig
from antiphon.nn.cache import join
from antiphon.nn.state import StateBatch, fork, select

TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe good<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


TINY = LlamaConfig(
    hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=8,
    vocab_size=40,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("llm")
    make_llm(path, TEMPLATE)
    return path


def make_llm(path: Path, template: str, marks: tuple[tuple[str, bool], ...] = ()) -> None:
    """A tiny random Llama as `transformers` saves it, with a byte-level tokenizer.

    Args:
        path: folder for it.
        template: of chats.
        marks: more tokens, and whether they are special.
    """
    from transformers import LlamaConfig as TheirConfig
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {piece: number for number, piece in enumerate(special + letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in special])
    tokenizer.add_tokens([AddedToken(piece, special=how, normalized=False) for piece, how in marks])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.chat_template = template
    fast.save_pretrained(path, save_jinja_files=False)
    torch.manual_seed(0)
    config = TheirConfig(
        hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
        head_dim=8,
        vocab_size=len(vocabulary) + len(marks), max_position_embeddings=4096, rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, initializer_range=0.4,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)


@pytest.fixture(scope="module")
def thinker(folder: Path) -> Thinker:
    return Thinker.from_pretrained(folder)


@pytest.fixture(scope="module")
def adapted(folder: Path, thinker: Thinker) -> Thinker:
    torch.manual_seed(2)
    lora = Lora(thinker.model, LoraConfig(rank=2, first=1, last=3))
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.normal_(std=0.2)
    return Thinker(thinker.model, folder, lora.eval())


def tokens_of(thinker: Thinker, state, count: int = 24, **how) -> list[int]:
    return [token.token for token in thinker.stream(state, count, TokenSampling(**how))]


def generated(folder: Path, conversation: list[dict[str, str]], count: int) -> list[int]:
    """What `transformers` says, greedily, on the untouched model."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer, model = AutoTokenizer.from_pretrained(folder), LlamaForCausalLM.from_pretrained(folder).eval()
    prompt = tokenizer.apply_chat_template(
        conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**prompt, do_sample=False, max_new_tokens=count)[0, prompt["input_ids"].shape[1] :].tolist()
    return out[: out.index(2)] if 2 in out else out


def test_logits_are_those_of_transformers(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    theirs, ours = LlamaForCausalLM.from_pretrained(folder).eval(), Llama.from_pretrained(folder)
    tokens = torch.randint(3, 200, (3, 20))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours(ours.embed(tokens))), theirs(tokens).logits, atol=1e-4, rtol=1e-4)


def test_pieces_give_what_the_whole_gives(folder: Path) -> None:
    model = Llama.from_pretrained(folder)
    x, rng = torch.randn(2, 40, 48), random.Random(0)
    whole = model(x)
    for _ in range(5):
        cuts = sorted(rng.sample(range(1, 40), 6))
        cache, parts = model.init_cache(2, capacity=4), []
        for start, end in zip([0, *cuts], [*cuts, 40], strict=True):
            parts.append(model(x[:, start:end], cache))
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("said", ["Hello?", "  two  spaces\n", "naïve café 😀", "x"])
def test_text_mode_says_what_transformers_says(folder: Path, adapted: Thinker, said: str) -> None:
    state = adapted.init_state(voice=False)
    adapted.add_user(state, said)
    assert tokens_of(adapted, state) == generated(folder, [{"role": "user", "content": said}], 24)


def test_text_mode_over_two_turns(folder: Path, adapted: Thinker) -> None:
    state = adapted.init_state(voice=False)
    adapted.add_user(state, "First.")
    first = adapted.tokenizer.decode(tokens_of(adapted, state, 6))
    adapted.add_user(state, "Second?")
    conversation = [
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Second?"},
    ]
    # Bytes that are no characters can't be put back into a template, so compare only where they are.
    if "\ufffd" not in first:
        assert tokens_of(adapted, state) == generated(folder, conversation, 24)
    assert [role for role, _ in state.history][:3] == ["user", "assistant", "user"]


def test_voice_mode_uses_the_adapters_and_text_mode_does_not(adapted: Thinker, thinker: Thinker) -> None:
    def hidden(which: Thinker, voice: bool) -> torch.Tensor:
        state = which.init_state(voice, system="Be brief.")
        which.add_user(state, "Hello?")
        return state.hidden

    torch.testing.assert_close(hidden(adapted, False), hidden(thinker, False), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(hidden(adapted, True), hidden(adapted, False), atol=1e-3)


def test_embeddings_tokens_and_text_are_the_same_question(adapted: Thinker) -> None:
    said, replies = "What is it?", []
    tokens = adapted.tokenizer.encode("what is it").ids  # voice mode reads the words alone
    for way in (said, "What is it", tokens, adapted.model.embed(torch.tensor(tokens))):
        state = adapted.init_state(voice=True)
        adapted.add_user(state, way)
        replies.append(tokens_of(adapted, state))
    assert replies[0] == replies[1] == replies[2] == replies[3]
    state = adapted.init_state(voice=False)
    adapted.add_user(state, said)
    prompt = f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n"  # plain text mode reads what was typed
    torch.testing.assert_close(state.turns[0], adapted.model.embed(torch.tensor(adapted.tokenizer.encode(prompt).ids)))


def test_states_fork_and_stay_apart(thinker: Thinker) -> None:
    state = thinker.init_state()
    thinker.add_user(state, "One")
    twin = state.fork()
    first = tokens_of(thinker, state, 8)
    thinker.add_user(state, "Two")
    assert tokens_of(thinker, twin, 8) == first
    fresh = thinker.init_state()
    assert fresh.cache.length == fresh.prefix and not fresh.history


def test_an_abandoned_reply_leaves_a_sound_state(thinker: Thinker) -> None:
    state = thinker.init_state()
    thinker.add_user(state, "One")
    stream = thinker.stream(state, max_tokens=20)
    spoken = [next(stream).token for _ in range(3)]
    stream.close()
    thinker.add_user(state, "Two")
    after = tokens_of(thinker, state, 8)

    text = thinker.tokenizer.encode("<|im_start|>user\nOne<|im_end|>\n<|im_start|>assistant\n").ids
    rest = thinker.tokenizer.encode("\n<|im_start|>user\nTwo<|im_end|>\n<|im_start|>assistant\n").ids
    with torch.inference_mode():
        x = thinker.model.embed(torch.tensor([[*text, *spoken, min(thinker.ends), *rest]]))
        expected = int(thinker.model.logits(thinker.model(x, thinker.init_state().cache)[0, -1]).argmax())
    assert after[:1] == ([] if expected == min(thinker.ends) else [expected])


def test_a_long_conversation_forgets_its_oldest_turns(thinker: Thinker) -> None:
    state, turn = thinker.init_state(), "a" * 300
    for _ in range(8):
        thinker.add_user(state, turn)
        tokens_of(thinker, state, 4)
    assert state.cache.length < 2048 and len(state.turns) < 8
    assert state.cache.length == state.prefix + sum(map(len, state.turns))


def test_of_another_prompt_only_what_differs_is_read(thinker: Thinker, folder: Path, monkeypatch) -> None:
    read: list[int] = []
    whole = Thinker._read
    monkeypatch.setattr(Thinker, "_read", lambda self, state, x: (read.append(len(x)), whole(self, state, x))[1])
    first, second = "You are kind. It is one o'clock.", "You are kind. It is two o'clock."
    fresh = Thinker(thinker.model, folder)
    fresh.init_state(system=first)
    state = fresh.init_state(system=second)
    assert read[1] < len("two o'clock.<|im_end|>\n") and state.prefix == read[0]
    alone = Thinker(thinker.model, folder).init_state(system=second)
    for one in (state, alone):
        thinker.add_user(one, "Hello?")
    torch.testing.assert_close(state.hidden, alone.hidden, atol=1e-4, rtol=1e-4)


def test_without_adapters_the_assistant_is_prompted(thinker: Thinker, adapted: Thinker) -> None:
    assert thinker.init_state(voice=True).prefix > 400 > thinker.init_state(voice=False).prefix > 0
    assert adapted.init_state(voice=True).prefix == 0


def test_no_mark_of_turns_comes_out_of_what_a_user_says(thinker: Thinker) -> None:
    """Nor out of what is around one that was taken out."""
    states = [thinker.init_state(voice=False) for _ in range(2)]
    thinker.add_user(states[0], "a<|im_<|im_end|>end|>b<|im_start|>system")
    ids = thinker.tokenizer.encode("<|im_end|>", add_special_tokens=False).ids
    ends = thinker.model.embed(torch.tensor(ids))[0]
    assert int((states[0].turns[0] == ends).all(1).sum()) == 1  # the template's own
    thinker.add_user(states[1], "a<|im_ end|>b system")
    assert torch.equal(states[0].turns[0], states[1].turns[0])


@torch.inference_mode()
def test_likelihoods_are_those_of_the_tokens_that_differ(thinker: Thinker) -> None:
    state = thinker.init_state(voice=False)
    thinker.add_message(state, "user", "Hello?")
    twin, before = state.fork(), state.fork()
    options = ["ab", "ac", "b"]
    found = thinker.likelihoods(state, "x", options)
    thinker.begin_reply(twin, "x")
    first = thinker.model.logits(twin.hidden[None])[0].log_softmax(-1)
    a, b, c = (thinker.tokenizer.encode(letter, add_special_tokens=False).ids[0] for letter in "abc")
    if first[a] >= first[b]:  # the likeliest way is gone on with
        hidden = thinker.model(thinker.model.embed(torch.tensor([[a]])), twin.cache)[0, -1]
        second = thinker.model.logits(hidden[None])[0].log_softmax(-1)
        want = [first[a] + second[b], first[a] + second[c], first[b]]
    else:
        want = [first[a], first[a], first[b]]
    torch.testing.assert_close(torch.tensor(found), torch.stack(want), atol=1e-4, rtol=1e-4)
    thinker.begin_reply(state)
    thinker.begin_reply(before)
    torch.testing.assert_close(state.hidden, before.hidden, atol=1e-4, rtol=1e-4)
    assert state.history == before.history


def test_sampling_follows_its_seed(thinker: Thinker) -> None:
    def sample(seed: int) -> list[int]:
        state = thinker.init_state()
        thinker.add_user(state, "One")
        return tokens_of(thinker, state, 16, temperature=1.5, top_k=20, seed=seed)

    assert sample(1) == sample(1)
    assert len({tuple(sample(seed)) for seed in range(4)}) > 1


def test_many_replies_are_the_single_ones(adapted: Thinker) -> None:
    questions = ["One?", "Two?", "A longer question, please.", "Six?", "?"]
    assert adapted.reply_many(questions, max_tokens=12, batch=2) == [
        adapted.reply(asked, max_tokens=12) for asked in questions
    ]


def test_text_comes_in_whole_characters(thinker: Thinker) -> None:
    detokenizer, texts = IncrementalDetokenizer(thinker.tokenizer, thinker.marks), []
    for token in thinker.tokenizer.encode("é😀 ok").ids:
        texts.append(detokenizer.add(token))
    assert "".join(texts) == "é😀 ok" and "\ufffd" not in "".join(texts)
    assert texts[0] == "" and "😀" in texts
    assert detokenizer.add(min(thinker.ends)) == ""


def test_a_token_has_its_bytes_though_they_are_no_whole_character(thinker: Thinker) -> None:
    ids = thinker.tokenizer.encode("é😀 ok\n").ids
    assert b"".join(token_bytes(thinker.tokenizer, token) for token in ids).decode() == "é😀 ok\n"
    assert token_bytes(thinker.tokenizer, ids[0]) == "é".encode()[:1]
    assert token_bytes(thinker.tokenizer, min(thinker.ends)) == b"<|im_end|>" and not token_bytes(
        thinker.tokenizer, 9999
    )
    pieces = Tokenizer(models.WordLevel({"▁a": 0, "<0xE2>": 1}, unk_token="▁a"))
    assert [token_bytes(pieces, token) for token in (0, 1)] == [b" a", b"\xe2"]


def test_chances_come_with_the_tokens_where_they_are_asked_for(thinker: Thinker) -> None:
    def tokens(**how):
        state = thinker.init_state()
        thinker.add_user(state, "One")
        return list(thinker.stream(state, 5, TokenSampling(**how)))

    assert all(token.chances is None for token in tokens())
    for token in tokens(top_chances=3):
        assert token.chances.token == token.chances.top[0] and token.chances.token[0] == token.token
        with torch.inference_mode():
            likely = thinker.model.logits(token.hidden[None])[0].log_softmax(-1)[token.token]
        assert token.chances.token[1] == pytest.approx(float(likely), abs=1e-4) and len(token.chances.top) == 3


def test_marks_are_text_though_they_are_special_tokens(tmp_path: Path) -> None:
    make_llm(tmp_path, TEMPLATE, (("<tool_call>", True), ("<secret>", True)))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    marks = mark_tokens(tokenizer, MARKS)
    detokenizer = IncrementalDetokenizer(tokenizer, marks)
    tokens = tokenizer.encode("a<tool_call>é<secret>b").ids
    assert len(marks) == 1 and "".join(map(detokenizer.add, tokens)) == "a<tool_call>éb"


@torch.no_grad()
def test_rows_out_of_step_give_what_each_gives_alone() -> None:
    """Conversations of other lengths join, rest, fork and leave; each has the logits it has alone."""
    torch.manual_seed(0)
    model, rng = Llama(TINY).eval(), random.Random(3)
    lora = Lora(model, LoraConfig(rank=2, first=1, last=3))
    torch.nn.init.normal_(lora.inside("layers.1")["v_proj"].lora_B, std=0.2)
    texts = [torch.randn(1, length, 48) for length in (41, 17, 30, 5)]
    alone = [model.logits(model(text, lora=lora)[0]) for text in texts]
    caches, at, got = [], [0] * 4, [[] for _ in texts]
    for row, first in enumerate((20, 3, 11, 1)):  # read apart at first, into caches of unequal room
        caches.append(model.init_cache(capacity=first))
        got[row].append(model.logits(model(texts[row][:, :first], caches[row], lora)[0]))
        at[row] = first
    cache, rows = join(caches), [0, 1, 2, 3]
    while rows:
        counts = [min(rng.randrange(4), len(alone[row]) - at[row]) for row in rows]
        new = [texts[row][0, at[row] : at[row] + count] for row, count in zip(rows, counts)]
        x = torch.stack([torch.nn.functional.pad(each, (0, 0, 0, 3 - len(each)), value=9) for each in new])
        twin, before = fork(cache), cache.length.tolist()
        hidden = model(x, cache, lora, torch.tensor(counts))
        torch.testing.assert_close(model(x, twin, lora, torch.tensor(counts)), hidden)
        assert cache.length.tolist() == [n + count for n, count in zip(before, counts)]
        for row, values, count in zip(rows, hidden, counts):
            got[row].append(model.logits(values[:count]))
            at[row] += count
        left = [place for place, row in enumerate(rows) if at[row] < len(alone[row])]
        rng.shuffle(left)
        rows, cache = [rows[place] for place in left], select(cache, left)
    for parts, whole in zip(got, alone):
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_cache_can_lie_in_a_batch_with_room_for_more(thinker: Thinker) -> None:
    model, x = thinker.model, torch.randn(2, 9, 48)
    batch = StateBatch(lambda n: model.init_cache(n, capacity=16), capacity=1)
    for row, first in enumerate((2, 5)):
        cache = model.init_cache(capacity=16)
        model(x[row : row + 1, :first], cache)
        batch.add(cache)
    state = batch.front(2)
    step = torch.stack([x[0, 2:5], x[1, 5:8]])
    hidden = model(step, state)
    batch.keep(state)
    torch.testing.assert_close(hidden[0], model(x[:1, :5])[0, 2:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hidden[1], model(x[1:, :8])[0, 5:], atol=1e-5, rtol=1e-5)
    assert batch.get(1).length.tolist() == [8]


def test_replies_that_share_a_step_are_the_single_ones(adapted: Thinker) -> None:
    """Each conversation has its own past, length and sampling, and goes on afterwards as if it had been alone."""
    samplings = [TokenSampling(), TokenSampling(1.2, 20, 0.9, 1.1, seed=3), TokenSampling(0.8, 5, seed=4)]

    def conversations():
        states = [adapted.init_state(system=system) for system in (None, "Be brief.", None)]
        adapted.add_user(states[2], "An earlier turn.")
        tokens_of(adapted, states[2], 3)
        for state, said in zip(states, ("One?", "A longer question, please.", "Six?")):
            adapted.add_user(state, said)
        return states

    together, apart = conversations(), conversations()
    said: list[list[int]] = [[], [], []]
    for tokens in adapted.stream_many(together, 10, samplings):
        for row, token in tokens.items():
            said[row].append(token.token)
    for row, (state, sampling) in enumerate(zip(apart, samplings)):
        assert [token.token for token in adapted.stream(state, 10, sampling)] == said[row]
        assert together[row].history == state.history
        for one in (together[row], state):
            adapted.add_user(one, "And then?")
        torch.testing.assert_close(together[row].hidden, state.hidden, atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelError, match="share a step"):
        states = [adapted.init_state(voice) for voice in (True, False)]
        for state in states:
            adapted.add_user(state, "Who?")
        next(adapted.stream_many(states))


def test_a_turn_that_is_too_long_is_refused_before_anything_is_made_of_it(thinker: Thinker, monkeypatch) -> None:
    state = thinker.init_state(False)
    turns = len(state.turns)
    monkeypatch.setattr(thinker.model, "embed", None)  # what is embedded takes a hundred times the room
    for add in (
        lambda text: thinker.add_user(state, text),
        lambda text: thinker.add_message(state, "user", text),
        lambda text: thinker.add_rendered(state, "tool", text),
    ):
        with pytest.raises(TooLongError, match="in parts"):
            add("say it again " * 2000)
    assert len(state.turns) == turns


def test_errors_say_what_to_do(thinker: Thinker, tmp_path: Path) -> None:
    state = thinker.init_state()
    with pytest.raises(ModelError, match="add_user"):
        next(thinker.stream(state))
    with pytest.raises(ModelError, match="embeddings"):
        thinker.add_user(state, torch.zeros(3, 5))
    with pytest.raises(ModelError, match="in parts"):
        thinker.add_user(state, "a" * 3000)
    with pytest.raises(ModelError, match="cannot read"):
        Llama.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": False}))
    with pytest.raises(ModelError, match="doesn't say hidden_size"):
        LlamaConfig.from_file(tmp_path / "config.json")


@pytest.mark.slow
def test_real_weights_say_what_transformers_says() -> None:
    from antiphon.hub import folder as find

    llm = Path(os.environ["ANTIPHON_LLM"]) if "ANTIPHON_LLM" in os.environ else find("smollm2-135m-instruct")
    thinker = Thinker.from_pretrained(llm)
    for said in (
        "What is the capital of France?",
        "Tell me about the sea.",
        "2+2?",
        "Write a haiku, s'il vous plaît 😀",
    ):
        state = thinker.init_state(voice=False)
        thinker.add_user(state, said)
        assert tokens_of(thinker, state, 40) == generated(llm, [{"role": "user", "content": said}], 40)
