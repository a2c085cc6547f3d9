"""The official Python client: chat, completions, streams, logprobs, errors."""
import math

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]


def test_models(client, model):
    card = client.models.retrieve(model)
    assert card.id == model and card.object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_chat_answers_and_splits_reasoning(client, model):
    reply = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    choice = reply.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant" and "42" in choice.message.content
    assert "<think>" not in choice.message.content
    assert choice.message.reasoning_content
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_stream_equals_the_whole_answer(client, model):
    whole = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    content, reasoning, roles, finishes, usage, ids = "", "", [], [], None, set()
    for chunk in stream:
        ids.add(chunk.id)
        if chunk.usage:
            usage = chunk.usage
            assert chunk.choices == []
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            if choice.delta.role:
                roles.append(choice.delta.role)
            if choice.finish_reason:
                finishes.append(choice.finish_reason)
    assert content == whole.choices[0].message.content
    assert reasoning == whole.choices[0].message.reasoning_content
    assert roles[:1] == ["assistant"] and finishes == ["stop"] and len(ids) == 1
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_thinking_can_be_switched_off(client, model):
    reply = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, extra_body={"chat_template_kwargs": {"enable_thinking": False}}
    )
    assert "42" in reply.choices[0].message.content
    assert not getattr(reply.choices[0].message, "reasoning_content", None)


def test_chat_logprobs(client, model):
    reply = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=8, logprobs=True, top_logprobs=3
    )
    entries = reply.choices[0].logprobs.content
    assert len(entries) == reply.usage.completion_tokens
    for entry in entries:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3
        assert math.isclose(entry.logprob, entry.top_logprobs[0].logprob, abs_tol=1e-6)  # greedy
        assert bytes(entry.bytes).decode("utf-8", "replace") == entry.token


def test_completion_stops_and_echoes(client, model):
    reply = client.completions.create(
        model=model, prompt="Question: Olga has 82 bottles. Later Olga wins 26 bottles. How many bottles does Olga have?\nAnswer:",
        temperature=0, max_tokens=64, stop=["####"],
    )
    assert "108" in reply.choices[0].text and "####" not in reply.choices[0].text
    assert reply.choices[0].finish_reason == "stop"
    echoed = client.completions.create(model=model, prompt="Once upon", temperature=0, max_tokens=4, echo=True)
    assert echoed.choices[0].text.startswith("Once upon")
    short = client.completions.create(model=model, prompt="Once upon a time", temperature=0)
    assert short.usage.completion_tokens == 16 and short.choices[0].finish_reason == "length"


def test_several_prompts_and_choices(client, model):
    reply = client.completions.create(
        model=model, prompt=["Once upon a time", "The river"], n=2, max_tokens=12, temperature=1, seed=7
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert reply.choices[0].text != reply.choices[1].text
    again = client.completions.create(
        model=model, prompt=["Once upon a time", "The river"], n=2, max_tokens=12, temperature=1, seed=7
    )
    assert [c.text for c in again.choices] == [c.text for c in reply.choices]


def test_completion_logprobs(client, model):
    reply = client.completions.create(model=model, prompt="Once upon a time", temperature=0, max_tokens=5, logprobs=2)
    logprobs = reply.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 5
    assert "".join(logprobs.tokens) == reply.choices[0].text


def test_cached_tokens_are_reported(client, model):
    prompt = "The following are codes. " * 20
    client.completions.create(model=model, prompt=prompt, max_tokens=1)
    warm = client.completions.create(model=model, prompt=prompt, max_tokens=1)
    assert warm.usage.prompt_tokens_details.cached_tokens >= warm.usage.prompt_tokens - 17


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1}, {"temperature": "hot"}, {"top_p": 0}, {"top_p": 1.5}, {"n": 0}, {"n": 10**9}, {"max_tokens": 0},
        {"max_tokens": -5}, {"logit_bias": {"999999": 1}}, {"logit_bias": {"x": 1}}, {"stop": ["a"] * 100},
        {"top_logprobs": 99, "logprobs": True}, {"messages": []}, {"messages": [{"role": "user"}]}, {"messages": "hello"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    ],
)
def test_mistakes_are_400_and_name_the_field(client, model, wrong):
    body = {"model": model, "messages": QUESTION} | wrong
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body=body, cast_to=object)
    assert any(name.split("_")[0] in caught.value.message for name in wrong), caught.value.message
    assert client.chat.completions.create(model=model, messages=QUESTION, max_tokens=1).usage.completion_tokens == 1


def test_too_long_a_prompt_says_the_numbers(client, model):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt=[5] * 9000, max_tokens=1)
    assert "8192" in caught.value.message
