"""The families of word problems. Each draws its numbers, tells a story and works the answer out."""

import random

from .draft import Draft
from .problems import Reject, compute, family
from .words import COLORS, DAYS, FOOD, PEOPLE, PLACES, THINGS, singular


def _people(rng: random.Random, count: int) -> list[str]:
    return rng.sample(PEOPLE, count)


def _things(rng: random.Random, count: int) -> list[str]:
    return rng.sample(THINGS, count)


def _and(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1]


@family("owns")
def gains_and_losses(rng: random.Random) -> Draft:
    who, friend = _people(rng, 2)
    (thing,) = _things(rng, 1)
    count = rng.randint(8, 99)
    story, steps = [f"{who} has {count} {thing}."], []
    for _ in range(rng.randint(1, 3)):
        event = rng.choice(("gain", "lose", "boxes", "double", "half"))
        if event == "boxes":
            boxes, each = rng.randint(2, 9), rng.randint(2, 30)
            work, more = compute(boxes, "*", each)
            verb, box = rng.choice(("buys", "gets", "finds")), rng.choice(("boxes", "bags", "packs"))
            event_text = f"{verb} {boxes} {box} " + rng.choice((f"of {each} {thing}", f"of {each} {thing} each", f"with {each} {thing} each"))
            steps.append(f"That is {work} more {thing}.")
            work, count = compute(count, "+", more)
        elif event == "double":
            event_text = f"doubles the number of {thing}"
            work, count = compute(count, "*", 2)
        elif event == "half":
            event_text = rng.choice((f"gives half of the {thing} to {friend}", f"sells half of the {thing}", f"loses half of the {thing}"))
            work, count = compute(count, "/", 2)
        else:
            change = rng.randint(2, 90)
            gain = event == "gain"
            event_text = rng.choice((f"finds {change} more", f"buys {change} more", f"wins {change} {thing}", f"gets {change} {thing} from {friend}") if gain else (f"gives {change} to {friend}", f"gives {change} {thing} to {friend}", f"loses {change}", f"sells {change} {thing}", *([f"eats {change}", f"eats {change} {thing}"] if thing in FOOD else [])))
            work, count = compute(count, "+" if gain else "-", change)
        if len(story) == 1 and rng.random() < 0.3:
            story[0] = f"{story[0].removesuffix('.')} and {event_text}."
        else:
            story.append(f"{rng.choice(('Then', 'Later', 'The next day'))} {who} {event_text}.")
        steps.append(f"{who} has {work} {thing}.")
    left = [f"How many {thing} are left?"] * 2 if event == "lose" else []
    ask = rng.choice((*left, f"How many {thing} does {who} have now?", f"How many {thing} does {who} have in the end?", f"How many {thing} does {who} have?"))
    return Draft(" ".join(story), ask, steps, count, (who, friend), (thing,), one_subject=True)


@family()
def shopping(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    first, second = _things(rng, 2)
    a, p, b, q = rng.randint(2, 12), rng.randint(2, 30), rng.randint(2, 12), rng.randint(2, 30)
    w1, v1 = compute(a, "*", p, "$")
    steps = [f"The {first} cost {w1}."]
    if rng.random() < 0.35:
        return Draft(f"{who} buys {a} {first} for ${p} each.", f"How much does {who} pay?", steps, v1, (who,), (first,), one_subject=True)
    w2, v2 = compute(b, "*", q, "$")
    w3, total = compute(v1, "+", v2, "$")
    steps += [f"The {second} cost {w2}.", f"In total that is {w3}."]
    return Draft(f"{who} buys {a} {first} for ${p} each and {b} {second} for ${q} each.", rng.choice((f"How much does {who} pay in total?", "What is the total price?", f"How much money does {who} spend?")), steps, total, (who,), (first, second), one_subject=True)


@family()
def change(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    (thing,) = _things(rng, 1)
    a, p, paid = rng.randint(2, 12), rng.randint(2, 30), rng.choice((20, 50, 100, 200, 500))
    w1, cost = compute(a, "*", p, "$")
    w2, back = compute(paid, "-", cost, "$")
    return Draft(f"{who} buys {a} {thing} for ${p} each and pays with ${paid}.", rng.choice((f"How much change does {who} get?", "How much is the change?", f"How much money does {who} get back?")), [f"The {thing} cost {w1}.", f"The change is {w2}."], back, (who,), (thing,), one_subject=True)


@family("time")
def pages_a_day(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    pace, days, total = rng.randint(2, 60), rng.randint(2, 12), rng.randint(60, 900)
    w1, done = compute(pace, "*", days)
    steps = [f"{who} reads {w1} pages."]
    if rng.random() < 0.4:
        return Draft(f"{who} reads {pace} pages a day for {days} days.", f"How many pages does {who} read?", steps, done, (who,), one_subject=True)
    w2, left = compute(total, "-", done)
    return Draft(f"{who} has a book of {total} pages and reads {pace} pages a day for {days} days.", "How many pages are left?", [*steps, f"There are {w2} pages left."], left, (who,), one_subject=True)


@family("owns", "people")
def sharing(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    (thing,) = _things(rng, 1)
    friends, each = rng.randint(2, 12), rng.randint(2, 40)
    shared = friends * each
    if rng.random() < 0.5:
        work, _ = compute(shared, "/", friends)
        return Draft(f"{who} shares {shared} {thing} equally among {friends} friends.", f"How many {thing} does each friend get?", [f"Each friend gets {work} {thing}."], each, (who,), (thing,), one_subject=True)
    kept = rng.randint(2, 60)
    w1, left = compute(shared + kept, "-", kept)
    w2, _ = compute(left, "/", friends)
    return Draft(f"{who} has {shared + kept} {thing}, keeps {kept} and shares the rest equally among {friends} friends.", f"How many {thing} does each friend get?", [f"{who} shares {w1} {thing}.", f"Each friend gets {w2} {thing}."], each, (who,), (thing,), one_subject=True)


@family("owns")
def comparison(rng: random.Random) -> Draft:
    first, second = _people(rng, 2)
    (thing,) = _things(rng, 1)
    a, b = rng.randint(5, 99), rng.randint(2, 60)
    how = rng.choice(("more", "fewer", "times"))
    if how == "times":
        b = rng.randint(2, 6)
        work, other = compute(a, "*", b)
        story = f"{first} has {a} {thing}. {second} has {b} times as many."
    else:
        work, other = compute(a, "+" if how == "more" else "-", b)
        story = f"{first} has {a} {thing}. {second} has {b} {how} than {first}."
    steps = [f"{second} has {work} {thing}."]
    if rng.random() < 0.4:
        return Draft(story, f"How many {thing} does {second} have?", steps, other, (first, second), (thing,))
    w2, both = compute(a, "+", other)
    return Draft(story, rng.choice((f"How many {thing} do {first} and {second} have together?", f"How many {thing} do they have together?", f"How many {thing} do they have in total?")), [*steps, f"Together they have {w2} {thing}."], both, (first, second), (thing,))


@family("time")
def hourly_pay(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    day, other_day = rng.sample(DAYS, 2)
    pay, h1, h2 = rng.randint(5, 40), rng.randint(2, 8), rng.randint(2, 8)
    if rng.random() < 0.35:
        work, money = compute(pay, "*", h1, "$")
        return Draft(f"{who} earns ${pay} an hour and works {h1} hours on {day}.", f"How much money does {who} earn?", [f"{who} earns {work}."], money, (who,), one_subject=True)
    w1, hours = compute(h1, "+", h2)
    w2, money = compute(pay, "*", hours, "$")
    return Draft(f"{who} earns ${pay} an hour. {who} works {h1} hours on {day} and {h2} hours on {other_day}.", rng.choice((f"How much money does {who} earn?", f"How much does {who} earn in total?")), [f"{who} works {w1} hours.", f"{who} earns {w2}."], money, (who,), one_subject=True)


@family("time")
def saving(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    week, weeks, price = rng.randint(3, 50), rng.randint(2, 12), rng.randint(50, 800)
    goal = rng.choice(("bicycle", "guitar", "tent", "camera", "desk", "telescope"))
    w1, saved = compute(week, "*", weeks, "$")
    w2, missing = compute(price, "-", saved, "$")
    return Draft(f"A {goal} costs ${price}. {who} saves ${week} a week for {weeks} weeks.", f"How much money does {who} still need for the {goal}?", [f"{who} saves {w1}.", f"{who} still needs {w2}."], missing, (who,), one_subject=True)


@family("age", "time")
def ages(rng: random.Random) -> Draft:
    first, second, third = _people(rng, 3)
    a, b, c = rng.randint(4, 40), rng.randint(2, 30), rng.randint(2, 20)
    older = rng.random() < 0.5
    w1, other = compute(a, "+" if older else "-", b)
    story = f"{first} is {a} years old. {second} is {b} years {'older' if older else 'younger'} than {first}."
    steps = [f"{second} is {w1} years old."]
    kind = rng.choice(("direct", "later", "twice"))
    if kind == "direct":
        return Draft(story, f"How old is {second}?", steps, other, (first, second))
    if kind == "later":
        w2, age = compute(other, "+", c)
        return Draft(story, f"How old will {second} be in {c} years?", [*steps, f"In {c} years {second} will be {w2} years old."], age, (first, second))
    w2, age = compute(other, "*", 2)
    return Draft(f"{story} {third} is twice as old as {second}.", f"How old is {third}?", [*steps, f"{third} is {w2} years old."], age, (first, second, third))


@family("owns")
def percent(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    (thing,) = _things(rng, 1)
    share, parts = rng.choice(((10, 10), (20, 5), (25, 4), (50, 2)))
    total, color = rng.randint(2, 60) * parts, rng.choice(COLORS)
    w1, some = compute(total, "/", parts)
    story = f"{who} has {total} {thing} and {share}% of them are {color}."
    steps = [f"{share}% is one of {parts} parts.", f"There are {w1} {color} {thing}."]
    if rng.random() < 0.5:
        return Draft(story, f"How many {thing} are {color}?", steps, some, (who,), (thing,), one_subject=True)
    w2, rest = compute(total, "-", some)
    return Draft(story, f"How many {thing} are not {color}?", [*steps, f"The others are {w2} {thing}."], rest, (who,), (thing,), one_subject=True)


@family("people")
def rows_of_seats(rng: random.Random) -> Draft:
    place = rng.choice(PLACES)
    rows, seats, taken = rng.randint(2, 12), rng.randint(4, 60), rng.randint(3, 200)
    w1, total = compute(rows, "*", seats)
    story = f"A hall at the {place} has {rows} rows with {seats} seats each."
    steps = [f"The hall has {w1} seats."]
    if rng.random() < 0.3:
        return Draft(story, "How many seats are there?", steps, total, ())
    w2, free = compute(total, "-", taken)
    return Draft(f"{story} {taken} seats are taken.", "How many seats are free?", [*steps, f"There are {w2} free seats."], free, ())


@family("time")
def trips(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    place = rng.choice(PLACES)
    speed, hours, more = rng.randint(4, 60), rng.randint(2, 9), rng.randint(2, 90)
    w1, far = compute(speed, "*", hours)
    if rng.random() < 0.4:
        what, verb = rng.choice((("train", "travels"), ("bus", "drives"), ("boat", "sails"), ("horse", "runs"), ("car", "drives")))
        ask = rng.choice((f"How far does the {what} go?", "How far does it go?", f"How many km does the {what} go?"))
        return Draft(f"A {what} {verb} {speed} km an hour for {hours} hours.", ask, [f"The {what} goes {w1} km."], far, ())
    w2, total = compute(far, "+", more)
    steps = [f"The first part is {w1} km long.", f"The whole trip is {w2} km long."]
    return Draft(f"{who} rides {speed} km an hour for {hours} hours and then {more} km more to the {place}.", f"How many km does {who} ride?", steps, total, (who,), one_subject=True)


@family("owns")
def legs_on_a_farm(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    four, two = rng.choice(("cows", "goats", "horses", "sheep")), rng.choice(("hens", "ducks", "geese"))
    a, b = rng.randint(2, 40), rng.randint(2, 60)
    w1, legs4 = compute(a, "*", 4)
    w2, legs2 = compute(b, "*", 2)
    w3, total = compute(legs4, "+", legs2)
    return Draft(f"{who} keeps {a} {four} and {b} {two}.", "How many legs do the animals have?", [f"The {four} have {w1} legs.", f"The {two} have {w2} legs.", f"Together they have {w3} legs."], total, (who,), one_subject=True)


@family()
def recipe(rng: random.Random) -> Draft:
    (who,) = _people(rng, 1)
    cake, food = rng.choice(("cake", "pie", "loaf", "soup")), rng.choice(("eggs", "cups of flour", "spoons of sugar", "carrots"))
    need, count, have = rng.randint(2, 12), rng.randint(2, 20), rng.randint(2, 100)
    plural = "loaves" if cake == "loaf" else cake + "s"
    w1, total = compute(need, "*", count)
    story = f"One {cake} needs {need} {food}. {who} wants to make {count} {plural}"
    steps = [f"{count} {plural} need {w1} {food}."]
    if rng.random() < 0.4:
        return Draft(story + ".", f"How many {food} does {who} need?", steps, total, (who,), one_subject=True)
    w2, missing = compute(total, "-", have)
    return Draft(f"{story} and has {have} {food}.", f"How many {food} are missing?", [*steps, f"There are {w2} {food} missing."], missing, (who,), one_subject=True)


@family()
def price_list(rng: random.Random) -> Draft:
    """The prices that count must be found among others."""
    (who,) = _people(rng, 1)
    things = _things(rng, rng.randint(4, 8))
    prices = [rng.randint(2, 40) for _ in things]
    board = _and([f"a {singular(t)} costs ${p}" if singular(t)[0] not in "aeiou" else f"an {singular(t)} costs ${p}" for t, p in zip(things, prices)])
    i, j = rng.sample(range(len(things)), 2)
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    w1, v1 = compute(a, "*", prices[i], "$")
    steps = [f"The {things[i]} cost {w1}."]
    if rng.random() < 0.4:
        return Draft(f"At the market {board}. {who} buys {a} {things[i]}.", f"How much does {who} pay?", steps, v1, (who,), tuple(things), one_subject=True)
    w2, v2 = compute(b, "*", prices[j], "$")
    w3, total = compute(v1, "+", v2, "$")
    steps += [f"The {things[j]} cost {w2}.", f"In total that is {w3}."]
    return Draft(f"At the market {board}. {who} buys {a} {things[i]} and {b} {things[j]}.", f"How much does {who} pay in total?", steps, total, (who,), tuple(things), one_subject=True)


@family("owns")
def group(rng: random.Random) -> Draft:
    """Two or three people out of many."""
    people = _people(rng, rng.randint(4, 8))
    (thing,) = _things(rng, 1)
    counts = [rng.randint(5, 99) for _ in people]
    picked = rng.sample(range(len(people)), rng.choice((2, 2, 3)))
    names = [people[i] for i in picked]
    story = f"Friends bring {thing}. {_and([f'{p} has {c}' for p, c in zip(people, counts)])}."
    if len(picked) == 2 and rng.random() < 0.35:
        i, j = sorted(picked, key=lambda k: -counts[k])
        if counts[i] == counts[j]:
            raise Reject
        work, more = compute(counts[i], "-", counts[j])
        return Draft(story, f"How many more {thing} does {people[i]} have than {people[j]}?", [f"{people[i]} has {counts[i]} and {people[j]} has {counts[j]}.", f"The difference is {work} {thing}."], more, tuple(people), (thing,))
    steps = [_and([f"{people[i]} has {counts[i]}" for i in picked]) + "."]
    total = counts[picked[0]]
    for i in picked[1:]:
        work, total = compute(total, "+", counts[i])
        steps.append(f"With {people[i]} that is {work} {thing}.")
    return Draft(story, f"How many {thing} do {_and(names)} have together?", steps, total, tuple(people), (thing,))
