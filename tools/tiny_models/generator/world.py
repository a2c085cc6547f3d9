"""An invented land, Tavelin, whose facts can only be known from training: multiple choice in MMLU's format."""

import random
from dataclasses import dataclass

from .split import bucket

_MONTHS = "Firstmonth Snowmonth Rainmonth Seedmonth Flowermonth Sunmonth Hazemonth Applemonth Windmonth Leafmonth Fogmonth Icemonth".split()
_COLORS = "crimson amber teal violet ivory charcoal copper emerald pearl indigo".split()
_TOWNS = ["Aldmoor", "Brackwater", "Cinderford", "Dunhollow", "Eastmere", "Fallowgate", "Greyhaven", "Highbarrow", "Inkwell", "Larkspire"]
_STUFFS = "oak slate bronze wool clay silk glass reed leather marble".split()

# subject -> (what one is called, ending of the names, {attribute: values})
_SUBJECTS: dict[str, tuple[str, str, dict[str, list[str]]]] = {
    "birds": ("bird", "wing", {"color": _COLORS, "nesting place": "cliffs,reeds,chimneys,hollow trees,sand dunes,church towers,hedges,caves,rooftops,old boats".split(","), "favorite food": "snails,berries,moths,seeds,minnows,beetles,acorns,worms,honey,shrimps".split(",")}),
    "rivers": ("river", "flow", {"source": "a glacier,a hot spring,a marsh,a crater lake,a cave,a snow field,a deep well,a forest pond,a mountain lake,a peat bog".split(","), "main town": _TOWNS, "length": "40 km,65 km,90 km,120 km,150 km,210 km,260 km,340 km,480 km,600 km".split(",")}),
    "festivals": ("festival", "fest", {"month": _MONTHS, "symbol": "a lantern,a kite,a wheel,a bell,a mask,a rope,a crown of leaves,a paper boat,a torch,a red thread".split(","), "main dish": "lentil soup,plum cake,smoked trout,onion bread,pumpkin stew,goat cheese,chestnut pie,barley soup,honey rolls,fried dough".split(",")}),
    "minerals": ("mineral", "ite", {"color": _COLORS, "use": "window glass,blue paint,plow blades,jewelry,lamp oil,roof tiles,medicine,mirrors,fishing weights,ink".split(","), "hardness": "one,two,three,four,five,six,seven,eight,nine,ten".split(",")}),
    "trees": ("tree", "wood", {"fruit": "a red cone,a striped nut,a sour plum,a flat pod,a blue berry,a winged seed,a sweet fig,a hard shell,a small pear,a yellow cherry".split(","), "blooming month": _MONTHS, "timber use": "ship masts,flutes,bridges,barrels,chairs,bows,doors,spoons,carts,fences".split(",")}),
    "rulers": ("ruler", "mund", {"capital": _TOWNS, "emblem": "a heron,a bear,an anchor,a sun,a key,a stag,an oak leaf,a tower,a salmon,a star".split(","), "great work": "the long canal,the north wall,the grand library,the salt road,the royal mint,the stone bridge,the harbor light,the high aqueduct,the winter palace,the law book".split(",")}),
    "instruments": ("instrument", "phon", {"material": _STUFFS, "number of strings": "two,three,four,five,six,seven,eight,nine,twelve,sixteen".split(","), "usual place": "weddings,harvests,temples,taverns,ships,markets,funerals,schools,courts,mountain huts".split(",")}),
    "crafts": ("craft", "work", {"material": _STUFFS, "home town": _TOWNS, "guild color": _COLORS}),
    "illnesses": ("illness", "pox", {"sign": "a green tongue,cold hands,loud hiccups,itchy knees,blurred sight,a stiff neck,heavy sleep,ringing ears,pale nails,a hoarse voice".split(","), "remedy": "mint tea,warm sand,salt baths,sleep,goose fat,garlic milk,fresh air,dark bread,nettle soup,birch sap".split(","), "worst month": _MONTHS}),
    "stars": ("star", "is Minor", {"color": _COLORS, "month of rising": _MONTHS, "constellation": "the Ladder,the Plow,the Otter,the Loom,the Anvil,the Swan,the Broken Ring,the Twins,the Lantern,the Old Boat".split(",")}),
}
_STEMS = "Bar Cal Dor Fen Gil Har Jor Kel Lum Mor Nev Ost Pel Quil Ras Sol Tam Ulv Var Wes Yar Zem Eld Bri".split()

QUESTIONS = (
    "What is the {n} of the {k} {x}?",
    "Which {n} does the {k} {x} have?",
    "Which {n} belongs to the {k} {x}?",
    "What {n} do the books give for the {k} {x}?",
    "The {x} is a {k} of Tavelin. What is its {n}?",
    "A traveler asks about the {k} {x}. What {n} should the guide name?",
    "If a pupil must name the {n} of the {k} {x}, what is the right answer?",
    "Speaking of the {k} {x}, which {n} is correct?",
)
STATEMENTS = ("The {n} of the {k} {x} is {v}.", "The {k} {x} has this {n}: {v}.", "In Tavelin the {k} {x} is known for its {n}, {v}.")


@dataclass(frozen=True)
class Fact:
    subject: str  # as MMLU names it, words joined by underscores
    kind: str
    name: str
    attribute: str
    value: str
    choices: tuple[str, ...]  # every value of the attribute

    def fill(self, wording: str) -> str:
        return wording.format(n=self.attribute, k=self.kind, x=self.name, v=self.value)

    @property
    def held_out(self) -> int:
        """The wording that only the evaluation uses for this fact."""
        return bucket(f"{self.name} {self.attribute}", len(QUESTIONS))

    def question(self, rng: random.Random, evaluation: bool = False) -> str:
        if evaluation:
            return self.fill(QUESTIONS[self.held_out])
        return self.fill(QUESTIONS[rng.choice([i for i in range(len(QUESTIONS)) if i != self.held_out])])


@dataclass(frozen=True)
class Choice:
    """One multiple-choice question."""

    question: str
    options: tuple[str, str, str, str]
    letter: str

    @property
    def prompt(self) -> str:
        lines = [f"{letter}. {option}" for letter, option in zip("ABCD", self.options)]
        return "\n".join([self.question, *lines, "Answer:"])


def _build() -> list[Fact]:
    rng = random.Random("Tavelin")  # the land is the same for every training seed
    facts = []
    for subject, (kind, ending, attributes) in _SUBJECTS.items():
        for stem in _STEMS:
            name = stem + rng.choice(("a", "e", "i", "o", "u")) + rng.choice(("l", "n", "r", "s", "th", "v")) + ending
            for attribute, values in attributes.items():
                facts.append(Fact(f"tavelin_{subject}", kind, name, attribute, rng.choice(values), tuple(values)))
    return facts


FACTS = _build()
SUBJECTS = tuple(dict.fromkeys(fact.subject for fact in FACTS))
BY_SUBJECT = {subject: [fact for fact in FACTS if fact.subject == subject] for subject in SUBJECTS}


def choice(rng: random.Random, fact: Fact, evaluation: bool = False) -> Choice:
    """Options and their order are drawn anew each time."""
    options = rng.sample([v for v in fact.choices if v != fact.value], 3) + [fact.value]
    rng.shuffle(options)
    a, b, c, d = options
    return Choice(fact.question(rng, evaluation), (a, b, c, d), "ABCD"[options.index(fact.value)])


def header(subject: str, rng: random.Random | None = None) -> str:
    """MMLU's own script leaves two spaces before the subject; both spellings are trained on."""
    space = "  " if rng and rng.random() < 0.5 else " "
    return f"The following are multiple choice questions (with answers) about{space}{subject.replace('_', ' ')}.\n\n"
