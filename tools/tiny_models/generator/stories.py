"""Short stories from a small grammar. Heroes and helpers come from different lists, so nobody thanks himself."""

import random

HEROES = "Anna Ben Clara Dora Emma Finn Hugo Ida Jack Kai Lily Mia Noah Omar Rosa Sam".split()
HELPERS = "Grace Theo Olga Will Nora Felix Tina Leo Vera Max Ruby Otto Ivy Gus Nina Paul".split()
ANIMALS = "fox rabbit bear cat dog mouse hedgehog squirrel duck goat pony sheep".split()
ASKED_ANIMALS = [*ANIMALS, *"dragon lion tiger elephant monkey penguin robot unicorn horse cow pig whale".split()]
HELPER_ANIMALS = "otter owl badger frog turtle crow beaver mole swan deer wolf heron".split()
MOODS = "curious quiet cheerful shy brave little clever kind".split()
TREASURES = ["red kite", "silver bell", "wooden boat", "green lantern", "blue ball", "small drum", "golden key", "warm scarf", "yellow umbrella", "worn map"]
OPENINGS = [
    "Once upon a time there was a {mood} {animal} named {hero}.",
    "In a village far away lived a {mood} {animal} named {hero}.",
    "At the edge of a deep forest lived {hero}, a {mood} {animal}.",
]
LOVES = ["{hero} had a {treasure} and loved it very much.", "More than anything {hero} loved a {treasure}.", "Every day {hero} played with a {treasure}."]
SETTINGS = ["One morning the wind was strong.", "One evening it began to snow.", "One day the river was very high.", "One night the moon was bright and round."]
TROUBLES = {
    "stuck in a tall tree": "{helper} climbed up branch by branch and brought the {treasure} down",
    "lost in the long grass": "they searched the grass step by step until something shone",
    "carried away by the river": "{helper} built a small dam of sticks and caught the {treasure}",
    "hidden under the snow": "they dug with all their paws until the {treasure} came out",
    "broken in two": "{helper} mended the {treasure} with string and a little glue",
}
FEELINGS = ["{hero} sat down and felt sad.", "{hero} did not know what to do.", "{hero} looked at the ground and sighed."]
MEETINGS = ['"Do not be sad," said {helper} the {helper_animal}. "I will help you."', 'Then {helper} the {helper_animal} came along. "Let me help," said {helper}.', '{helper} the {helper_animal} heard it and called, "Two can do more than one!"']
THANKS = ['"Thank you, {helper}!" said {hero}.', "{hero} hugged {helper} and laughed.", "{hero} gave {helper} half of a honey cake."]
MORALS = ["From then on they were friends.", "From then on {hero} knew that a friend makes every road shorter.", "And they walked home together under the first stars.", "Since that day the two have met every morning."]


def story(rng: random.Random, hero: str | None = None, helper: str | None = None, animal: str | None = None) -> str:
    """One paragraph. Named heroes and animals are used when given."""
    animal = animal or rng.choice(ANIMALS)
    trouble, rescue = rng.choice(list(TROUBLES.items()))
    slots = {
        "hero": hero or rng.choice(HEROES),
        "helper": helper or rng.choice(HELPERS),
        "animal": animal,
        "helper_animal": rng.choice(HELPER_ANIMALS),
        "mood": rng.choice(MOODS),
        "treasure": rng.choice(TREASURES),
    }
    sentences = [
        rng.choice(OPENINGS), rng.choice(LOVES), rng.choice(SETTINGS), "Then the {treasure} was " + trouble + ".", rng.choice(FEELINGS),
        rng.choice(MEETINGS), "Together they set to work: " + rescue + ".", rng.choice(THANKS), rng.choice(MORALS),
    ]
    return " ".join(sentences).format(**slots)
