"""Functions to call: choose one from the list, copy the argument from the question, put the reply into words."""

import json
import random

from .chat_format import Exchange
from .small_talk import CAPITALS
from .words import THINGS, invented_name, singular

_VERBS = ("get", "find", "fetch", "look_up", "query", "read")
# noun in the function's name -> (parameter, question, key of the reply, answer)
_KINDS = {
    "weather": ("city", ["What is the weather in {v}?", "How is the weather in {v} today?", "Is it warm in {v}?"], "degrees", "It is {r} degrees in {v}."),
    "time": ("city", ["What time is it in {v}?", "How late is it in {v}?"], "time", "In {v} it is {r}."),
    "population": ("city", ["How many people live in {v}?", "What is the population of {v}?"], "people", "{r} people live in {v}."),
    "price": ("item", ["How much does a {v} cost?", "What is the price of a {v}?"], "dollars", "The {v} costs ${r}."),
    "stock": ("item", ["How many pieces of the {v} are left?", "Is the {v} in stock?"], "pieces", "There are {r} pieces of the {v} left."),
    "phone": ("name", ["What is the phone number of {v}?", "How can I call {v}?"], "number", "The phone number of {v} is {r}."),
}
_ABOUT = {"city": "Name of the city", "item": "Name of the thing", "name": "Name of the person"}


def _schema(noun: str, name: str, rng: random.Random) -> dict:
    parameter = _KINDS[noun][0]
    described = {"type": "string", "description": _ABOUT[parameter]} if rng.random() < 0.5 else {"type": "string"}
    function = {"name": name, "description": f"Tells the {noun}", "parameters": {"type": "object", "properties": {parameter: described}, "required": [parameter]}}
    return {"type": "function", "function": function}


def tool_use(rng: random.Random) -> tuple[Exchange, list[dict]]:
    """An exchange that needs a function, and the functions on offer. Most of them stop at the call."""
    nouns = rng.sample(list(_KINDS), rng.randint(1, 4))
    names = {noun: f"{rng.choice(_VERBS)}_{noun}" for noun in nouns}
    tools = [_schema(noun, names[noun], rng) for noun in nouns]
    noun = rng.choice(nouns)
    parameter, asks, key, answer = _KINDS[noun]
    if parameter == "item":
        value = singular(rng.choice(THINGS))
    else:
        value = rng.choice([*CAPITALS.values()]) if parameter == "city" and rng.random() < 0.4 else invented_name(rng)
    reply = f"{rng.randint(0, 23)}:{rng.randint(10, 59)}" if noun == "time" else rng.randint(2, 999)
    exchange = Exchange(
        rng.choice(asks).format(v=value), "The function has answered.", answer.format(v=value, r=reply),
        calls=[(names[noun], {parameter: value})], replies=[json.dumps({key: reply})] if rng.random() < 0.35 else [],
        weight=3.0,  # the name and the argument are few tokens and must be exact
    )
    return exchange, tools
