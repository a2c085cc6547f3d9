"""Retells a problem with a pronoun (`Ben has ... How many does he have?`) or in the first person."""

import dataclasses
import random
import re

from .draft import Draft
from .words import MEN

_BASE = {v: v[:-1] for v in "buys gets finds gives sells loses wins doubles reads pays earns works saves rides keeps shares wants eats".split()} | {"has": "have"}


def _as_subject(text: str, who: str, word: str) -> str:
    capital = word[0].upper() + word[1:]
    text = re.sub(rf"(^|[.?!] ){who}\b", rf"\g<1>{capital}", text)
    return re.sub(rf"\b{who}\b", word, text)


def _you(text: str, who: str, word: str) -> str:
    """Subject and verbs; the families that use this have one person as the subject of every sentence."""
    text = text.replace(f"does {who}", f"do {word}").replace("still needs", "still need")
    for verb, base in _BASE.items():
        text = re.sub(rf"\b{verb}\b", base, text)
    return _as_subject(text, who, word)


def with_pronoun(draft: Draft) -> Draft:
    """The name once, then he or she."""
    who = draft.names[0]
    pronoun = "he" if who in MEN else "she"
    text = f"{draft.story}\n{draft.ask}"
    first = text.index(who) + len(who)
    story, ask = (text[:first] + _as_subject(text[first:], who, pronoun)).split("\n")
    return dataclasses.replace(draft, story=story, ask=ask)


def first_person(draft: Draft) -> Draft:
    who = draft.names[0]
    return dataclasses.replace(draft, story=_you(draft.story, who, "I"), ask=_you(draft.ask, who, "I"), steps=[_you(step, who, "you") for step in draft.steps])


def retell(rng: random.Random, draft: Draft) -> Draft:
    if not draft.one_subject or rng.random() < 0.55:
        return draft
    return with_pronoun(draft) if rng.random() < 0.75 else first_person(draft)
