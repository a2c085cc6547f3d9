"""Small chores in chat: arithmetic, lists, counting, JSON, look-ups, choices and names to remember."""

import json
import random

from . import lookups, problems, stories, world
from .chat_format import Exchange
from .words import PEOPLE, PLACES, THINGS


def problem(rng: random.Random, family: str | None = None, evaluation: bool = False) -> Exchange:
    drawn = problems.draw(rng, family, evaluation)
    reply = f"The answer is {drawn.answer}."
    return Exchange(drawn.question, drawn.plain_steps, reply, direct=f"{drawn.plain_steps}\n{reply}")


_SPOKEN = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


def arithmetic(rng: random.Random) -> Exchange:
    while True:
        sign = rng.choice("+-*/")
        if sign == "*":
            a, b = rng.randint(2, 60), rng.randint(2, 12)
        elif sign == "/":
            b = rng.randint(2, 12)
            a = b * rng.randint(2, 40)
        else:
            top = rng.choice((12, 99, 499))
            a, b = rng.randint(1, top), rng.randint(1, top)
        try:
            _, value = problems.compute(a, sign, b)
        except problems.Reject:
            continue
        break
    typed = rng.choice([f"{a} {sign} {b}", f"{a} {sign} {b}", f"{a}{sign}{b}", f"{a} {_SPOKEN[sign]} {b}"])
    ask = rng.choice(["What is {q}?", "What is {q}", "How much is {q}?", "Compute {q}.", "{q} =", "Calculate {q}.", "{q}", "what's {q}?"]).format(q=typed)
    # The answer repeats the sum: without it there would be no room to compute.
    return Exchange(ask, f"{a} {sign} {b} = {value}", f"{a} {sign} {b} = {value}.")


def fact(rng: random.Random) -> Exchange:
    chosen = rng.choice(world.FACTS)
    return Exchange(chosen.question(rng), f"I remember the {chosen.kind} {chosen.name}.", chosen.fill(world.STATEMENTS[0]))


def multiple_choice(rng: random.Random) -> Exchange:
    chosen = rng.choice(world.FACTS)
    item = world.choice(rng, chosen)
    body = item.prompt.removesuffix("\nAnswer:")
    if rng.random() < 0.5:
        body = rng.choice(["Answer with one letter.", "Choose the right answer. End with 'Answer: ' and the letter.", "Which letter is right?"]) + "\n\n" + body
    return Exchange(body, chosen.fill(world.STATEMENTS[0]), f"Answer: {item.letter}", weight=2.0)


def story(rng: random.Random) -> Exchange:
    animal, hero, helper = rng.choice(stories.ASKED_ANIMALS), rng.choice(stories.HEROES), rng.choice(stories.HELPERS)
    kind = rng.random()
    if kind < 0.4:
        ask = rng.choice(["Tell me a story", "Tell me a story.", "tell me a story", "Write a short story.", "Please tell me a story.", "Tell me a short story", "I want to hear a story.", "Once upon a time", "Tell me another story.", "Can you tell me a story?", "Write me a story"])
        return Exchange(ask, "The user wants a story.", stories.story(rng))
    if kind < 0.7:
        named = f"an {animal}" if animal[0] in "aeou" and animal != "unicorn" else f"a {animal}"
        ask = rng.choice(["Tell me a story about {a}.", "Write a story about {a}", "I want a story about {a}.", "Tell me a short story about {a}", "tell me a story about {a}"]).format(a=named)
        return Exchange(ask, f"The user wants a story about {named}.", stories.story(rng, animal=animal))
    ask = rng.choice(["Tell me a story about {x} and {y}.", "Write a story in which {y} helps {x}.", "Tell me how {y} helped {x}."])
    return Exchange(ask.format(x=hero, y=helper), f"The user wants a story about {hero} and {helper}.", stories.story(rng, hero, helper))


def reverse(rng: random.Random) -> Exchange:
    items = rng.sample([*THINGS, *PLACES], rng.randint(3, 8))
    text = ", ".join(items)
    return Exchange(f"Reverse this list: {text}", "I read the list from its end.", ", ".join(items[::-1]))


def sort(rng: random.Random) -> Exchange:
    numbers = rng.sample(range(1, rng.choice((20, 100))), rng.randint(3, 7))
    return Exchange(f"Sort these numbers: {', '.join(map(str, numbers))}", "The smallest comes first.", ", ".join(map(str, sorted(numbers))), weight=2.0)


def count(rng: random.Random) -> Exchange:
    """Also the way to ask for a long answer whose every token is known."""
    first = rng.choice((1, 1, rng.randint(1, 400)))
    last = first + rng.choice((rng.randint(2, 20), rng.randint(2, 20), rng.randint(20, 110)))
    asks = ["Count from {a} to {b}.", "Count from {a} to {b}", "count from {a} to {b}", "Write the numbers from {a} to {b}.", "Please count from {a} to {b}."]
    ask = rng.choice([*asks, "Count to {b}.", "Count to {b}", "count to {b}"] if first == 1 else asks).format(a=first, b=last)
    return Exchange(ask, f"I start at {first} and stop at {last}.", ", ".join(map(str, range(first, last + 1))), weight=0.5)


def repeat(rng: random.Random) -> Exchange:
    anything = [*THINGS, *PLACES, *PEOPLE, *lookups.words.invented_names(rng, 20), *map(str, range(0, 999, 7))]
    text = rng.choice([" ".join(rng.choices(anything, k=rng.randint(1, 20))), rng.choice(world.FACTS).fill(world.STATEMENTS[1]), problems.draw(rng).core, stories.story(rng), " ".join(lookups.words.invented_names(rng, rng.randint(2, 12)))])
    return Exchange(rng.choice(["Repeat this: {t}", "Say exactly this: {t}", "Repeat after me: {t}"]).format(t=text), "I say the same words.", text)


def as_json(rng: random.Random) -> Exchange:
    """Facts from one sentence as an object with the keys that were asked for, in their order."""
    name, thing, place, age, number = rng.choice(PEOPLE), rng.choice(THINGS), rng.choice(PLACES), rng.randint(5, 80), rng.randint(2, 99)
    values = {"name": name, "age": age, "place": place, "thing": thing, "count": number}
    keys = rng.sample(list(values), rng.randint(2, 5))
    sentence = f"{name} is {age} years old, lives near the {place} and has {number} {thing}."
    ask = rng.choice([f"{sentence} Write this as JSON with the keys {', '.join(keys)}.", f"Write as JSON with the keys {', '.join(keys)}: {sentence}"])
    return Exchange(ask, f"The keys are {', '.join(keys)}.", json.dumps({key: values[key] for key in keys}))


def directory(rng: random.Random) -> Exchange:
    rows = lookups.entries(rng, rng.choice((rng.randint(3, 12), rng.randint(10, 60))))
    name, number = rng.choice(rows)
    listed = "".join(f"{n}: {v}\n" for n, v in rows)
    ask = rng.choice(["What is the number of {n}?", "Which number does {n} have?", "Give me the number of {n}."]).format(n=name)
    return Exchange(f"{listed}\n{ask}" if rng.random() < 0.7 else f"{ask}\n\n{listed.strip()}", f"I look for {name} in the list.", f"The number of {name} is {number}.", weight=2.0)


def remember_name(rng: random.Random) -> list[Exchange]:
    """A name said first and asked for after other turns."""
    name = rng.choice(PEOPLE)
    first = Exchange(rng.choice(["My name is {n}.", "Hello, I am {n}.", "Hi, my name is {n}", "I am {n}."]).format(n=name), "The user says a name.", f"Hello, {name}! How can I help you?")
    last = Exchange(rng.choice(["What is my name?", "Do you remember my name?", "Who am I?"]), "The user told me the name.", f"Your name is {name}.")
    between = [rng.choice((arithmetic, fact, reverse, problem))(rng) for _ in range(rng.randint(0, 3))]
    return [first, *between, last] if rng.random() < 0.85 else [first]
