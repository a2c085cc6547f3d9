"""Word lists, and the invented names that look-ups use."""

import random

PEOPLE = (
    "Ada Ahmed Alice Amir Anna Ben Bella Carl Carmen Clara Dana David Dora Elena Eli Emma Erik Fatima Felix Finn Grace Gus Hana Hugo Ida Igor Ines Ivan Ivy Jack Jana Jonas Kai Kim Lars Lena Leo Lily Lucas Maja Marco Maria Mia Mila Nadia Nils Noah Nora Olga Omar Oscar Paul Petra Rosa Ruth Sam Sara Simon Sofia Tara Theo Tina Tom Uma Vera Victor Wanda Will Yara Yusuf Zoe"
).split()
MEN = frozenset("Ahmed Amir Ben Carl David Eli Erik Felix Finn Gus Hugo Igor Ivan Jack Jonas Kai Kim Lars Leo Lucas Marco Nils Noah Omar Oscar Paul Sam Simon Theo Tom Victor Will Yusuf".split())
THINGS = (
    "apples balloons beads books bottles buttons candles cards coins cookies cups eggs feathers flowers keys lamps lemons marbles muffins oranges pebbles pencils plums postcards ribbons shells spoons stamps stickers stones tickets toys"
).split()
FOOD = frozenset("apples cookies eggs lemons muffins oranges plums".split())
SINGULAR = {"cookies": "cookie", "oranges": "orange", "muffins": "muffin", "toys": "toy"}
PLACES = "bakery beach bridge castle farm garden harbor library market mill museum park school square station theater tower zoo".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COLORS = "red blue green yellow white black brown gray orange purple silver golden".split()
OBJECTS = "bag basket bell bicycle boat box bucket cabinet cage car case chest clock cupboard desk door drawer drum gate hut jar kite ladder locker mailbox piano room safe shed shelf suitcase table tent train trunk vault wagon".split()

_STARTS = "ba be bo da de do fa fe ga ge ha he jo ka ke ko la le lo ma me mo na ne no pa pe po ra re ro sa se so ta te to va ve wo za".split()
_MIDDLES = "bal bel dan den dor fin gar gol han kel kor lan lem lin mar mel mon nar nil nor pal pen rad ren ril ros sal sen sil tan tel tim tor val van ver vin wen zan zel".split()
_ENDS = ["", "", "", "a", "o", "is", "us", "ek", "ur", "ix"]


def singular(thing: str) -> str:
    return SINGULAR.get(thing, thing.removesuffix("s"))


def invented_name(rng: random.Random) -> str:
    """About ten thousand names such as Bakelo or Sotimur."""
    return (rng.choice(_STARTS) + rng.choice(_MIDDLES) + rng.choice(_ENDS)).capitalize()


def invented_names(rng: random.Random, count: int) -> list[str]:
    """Different names, in random order."""
    names: dict[str, None] = {}
    while len(names) < count:
        names[invented_name(rng)] = None
    return list(names)
