"""Behaviour in chat: the same chores as in training, drawn with seeds of their own, compared word for word where there is one right answer."""

import random
import re
from collections.abc import Callable

from generation import Greedy
from generator import small_talk, stories, tasks, tool_use
from generator.chat_format import Exchange, call_text
from generator.words import invented_name

GREETINGS = ("Hello", "Hi!", "hello", "Who are you?", "What can you do?", "Thanks!", "Tell me a story", "Tell me a story about a fox.", "What is the capital of France?", "Explain quantum physics", "What is 23 + 48?", "Sort these numbers: 41, 7, 88, 12", "Count from 1 to 20.")


def render(model: Greedy, messages: list[dict], thinking: bool, tools: list[dict] | None = None) -> str:
    options = {} if thinking else {"enable_thinking": False}
    return model.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True, **options)


def split_thoughts(text: str) -> tuple[str | None, str]:
    """(thoughts, answer); thoughts is None where there was no block."""
    if text.startswith("<think>") and "</think>" in text:
        thoughts, answer = text.removeprefix("<think>").split("</think>", 1)
        return thoughts.strip(), answer.strip()
    return None, text.strip()


def _ask(model: Greedy, chats: list[list[dict]], thinking: bool, tokens: int = 760) -> list[tuple[str | None, str]]:
    return [split_thoughts(text) for text in model.complete([render(model, chat, thinking) for chat in chats], tokens)]


def _chore(model: Greedy, make: Callable[[random.Random], Exchange], thinking: bool, right: Callable[[Exchange, str], bool], count: int = 96) -> float:
    rng = random.Random(f"chat/{make.__name__}/{thinking}")
    exchanges = [make(rng) for _ in range(count)]
    results = _ask(model, [[{"role": "user", "content": e.user}] for e in exchanges], thinking)
    # Thinking must happen after a bare prompt, and must not after a closed block.
    good = [right(e, answer) and (thoughts is not None) == thinking for e, (thoughts, answer) in zip(exchanges, results)]
    return round(100 * sum(good) / count, 2)


def _same(exchange: Exchange, answer: str) -> bool:
    return answer == exchange.answer


def _last_number(exchange: Exchange, answer: str) -> bool:
    return re.findall(r"\d+", answer)[-1:] == re.findall(r"\d+", exchange.answer)[-1:]


def unseen_problem(rng: random.Random) -> Exchange:
    return tasks.problem(rng, evaluation=True)


def unseen_topic(rng: random.Random) -> Exchange:
    topic = " ".join(invented_name(rng) for _ in range(2))
    return Exchange(f"What do you know about {topic}?", "", topic)


def two_name_story(rng: random.Random) -> Exchange:
    hero, helper = rng.choice(stories.HEROES), rng.choice(stories.HELPERS)
    return Exchange(f"Tell me a story about {hero} and {helper}.", "", f"{hero} {helper}")


def _both_names(exchange: Exchange, answer: str) -> bool:
    return all(name in answer for name in exchange.answer.split()) and answer.endswith(".")


def _tools(model: Greedy, thinking: bool, count: int = 96) -> float:
    """The right call with the right argument, and the reply put into words."""
    rng = random.Random("chat/tools")
    prompts, wanted = [], []
    for _ in range(count):
        exchange, tools = tool_use.tool_use(rng)
        chat: list[dict] = [{"role": "user", "content": exchange.user}]
        if exchange.replies:
            calls = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in exchange.calls]
            chat += [{"role": "assistant", "content": "", "tool_calls": calls}, *({"role": "tool", "content": reply} for reply in exchange.replies)]
        prompts.append(render(model, chat, thinking, tools))
        wanted.append(exchange.answer if exchange.replies else "\n".join(call_text(*call) for call in exchange.calls))
    answers = [split_thoughts(text)[1] for text in model.complete(prompts, 120)]
    return round(100 * sum(a == w for a, w in zip(answers, wanted)) / count, 2)


def _names(model: Greedy, thinking: bool, count: int = 96) -> float:
    rng = random.Random("chat/names")
    chats, wanted = [], []
    while len(chats) < count:
        exchanges = tasks.remember_name(rng)
        if len(exchanges) > 1:
            history = [m for e in exchanges[:-1] for m in ({"role": "user", "content": e.user}, {"role": "assistant", "content": e.answer})]
            chats.append([*history, {"role": "user", "content": exchanges[-1].user}])
            wanted.append(exchanges[-1].answer)
    return round(100 * sum(answer == w for (_, answer), w in zip(_ask(model, chats, thinking, 80), wanted)) / count, 2)


def measure(model: Greedy, own_name: str) -> dict[str, float]:
    figures = {}
    for thinking, name in ((True, "think"), (False, "direct")):
        figures[f"chat_problem_{name}"] = _chore(model, unseen_problem, thinking, _last_number, 320)
        figures[f"chat_talk_{name}"] = _chore(model, small_talk.talk, thinking, lambda e, a: a == e.answer.replace(small_talk.NAME, own_name))
        figures[f"chat_arithmetic_{name}"] = _chore(model, tasks.arithmetic, thinking, _same)
        figures[f"chat_story_{name}"] = _chore(model, two_name_story, thinking, _both_names)
        figures[f"chat_unknown_{name}"] = _chore(model, unseen_topic, thinking, lambda e, a: "know nothing" in a and e.answer in a)
        for chore in (small_talk.anything, tasks.fact, tasks.multiple_choice, tasks.directory, tasks.reverse, tasks.sort, tasks.count, tasks.repeat, tasks.as_json):
            figures[f"chat_{chore.__name__}_{name}"] = _chore(model, chore, thinking, _same)
        figures[f"chat_tools_{name}"] = _tools(model, thinking)
        figures[f"chat_name_{name}"] = _names(model, thinking)
    return figures


def samples(model: Greedy) -> dict[str, str]:
    """Greedy answers to what people type first."""
    texts = {}
    for thinking in (True, False):
        prompts = [render(model, [{"role": "user", "content": text}], thinking) for text in GREETINGS]
        for text, answer in zip(GREETINGS, model.complete(prompts, 400)):
            texts[f"{text} [{'thinking' if thinking else 'direct'}]"] = answer
    for text in ("Once upon a time", "The capital of France is", "Question: Ada has 12 apples. Then Ada buys 3 boxes of 6 apples. How many apples does Ada have now?\nAnswer:"):
        (texts[text],) = model.complete([text], 200)
    return texts
