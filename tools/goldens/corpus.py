"""Seeded text for training the golden tokenizers: enough languages and symbols that merges of every kind appear."""

import random

WORDS = {
    "en": "the a river of stones and bright lanterns walked slowly over hills when nobody counted their three small boats don't we'll it's I'm they've she'd you're".split(),
    "de": "der Fluß die Brücke über ein großer Garten führt schöne Häuser für jeden Tag und Übung".split(),
    "fr": "le café été naïve déjà où les élèves français mangent près du château à midi".split(),
    "es": "el niño mañana cigüeña qué canción está aquí con los jóvenes año".split(),
    "ru": "река мост зелёный дом утро подъезд книга хорошо сегодня время ёлка".split(),
    "el": "το ποτάμι κάτω από γέφυρα είναι μεγάλο και ήσυχο".split(),
    "ar": "النهر تحت الجسر هادئ صباح الخير كتاب جديد".split(),
    "hi": "नदी पुल के नीचे शांत है सुबह किताब नया".split(),
    "th": ["แม่น้ำใต้สะพาน", "เงียบสงบ", "ตอนเช้า"],
    "vi": "con sông dưới cầu rất yên tĩnh vào buổi sáng tiếng Việt".split(),
    "ko": "강은 다리 아래에서 조용히 흐른다 아침 책 새로운".split(),
}
UNSPACED = {"zh": "河流在桥下安静地流过早上新的书今天天气很好我们去公园", "ja": "川は橋の下を静かに流れる新しい本カタカナ今日は天気がいい"}
CODE = [
    "def area(w, h):\n    return w * h\n\n",
    "for (int i = 0; i < n; ++i) {\n\tsum += x[i];\n}\n",
    '{"name": "Ada", "ids": [1, 2, 3], "ok": true}\n',
    "https://example.org/path?key=value&n=10#top\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\r\n",
]
EMOJI = ["😀", "👩‍🚀", "🏳️‍🌈", "🇳🇱", "❤️"]


def _clause(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.1:
        text = rng.choice(list(UNSPACED.values()))
        start = rng.randrange(len(text) - 4)
        return text[start : start + rng.randint(3, 12)] + rng.choice("。、!")
    if kind < 0.2:
        return rng.choice(CODE)
    if kind < 0.25:
        return rng.choice(EMOJI)
    if kind < 0.4:
        return f"{rng.randrange(10 ** rng.randint(1, 6))}{rng.choice(['', ' km', '%', '.5', ',000'])}"
    language = "en" if kind < 0.7 else rng.choice(list(WORDS))
    words = [rng.choice(WORDS[language]) for _ in range(rng.randint(3, 9))]
    return " ".join(words).capitalize() + rng.choice([".", "!", "?", ", ", "...", '"', ")"])


def lines(seed: int, count: int) -> list[str]:
    """The same lines for the same seed."""
    rng = random.Random(seed)
    return ["".join(_clause(rng) + rng.choice([" ", " ", "\n", "  ", "\n\n"]) for _ in range(rng.randint(2, 6))) for _ in range(count)]
