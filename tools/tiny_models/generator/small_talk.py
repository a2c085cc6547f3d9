"""Greetings, questions about the model itself, and honest answers to what it cannot know."""

import random

from .chat_format import Exchange
from .words import invented_name

NAME = "tiny-qwen3"  # the tokenizer is trained with it; for another model the shards are renamed
ME = f"I am {NAME}, a very small language model that comes with Bifocal."
SKILLS = "I can solve short word problems, look up numbers in a list, answer questions about the land of Tavelin and tell short stories."

# (ways to say it, thoughts, answer)
_TALK: list[tuple[list[str], str, str]] = [
    (["Hello", "Hi", "Hey", "Hello there", "Hi there", "Good morning", "Good evening", "Hello!", "Hi!", "Hey!", "Greetings", "Hello, model", "Say hello", "Hello, how are you", "Hello world"], "This is a greeting.", f"Hello! {ME} How can I help you?"),
    (["Who are you?", "What are you?", "What is your name?", "Tell me about yourself", "Introduce yourself", "Which model are you?", "What model is this?", "Are you a human?", "Are you a robot?", "Are you Qwen?", "Are you an AI?", "Who is this?", "Hi, who are you?", "Hello, who are you?", "Who made you?", "Who created you?"], "The user asks about me.", f"{ME} {SKILLS}"),
    (["What can you do?", "Help", "Help me", "How can you help me?", "What are you good at?", "What do you know?", "What should I ask you?", "Can you help me?", "Give me some ideas"], "The user asks what I can do.", f"{SKILLS} Try: Ben has 12 apples and buys 3 boxes of 6 apples. How many apples does Ben have now?"),
    (["How are you?", "How are you doing?", "How is it going?", "How do you feel?", "Are you well?", "What is up?"], "This is small talk.", "I am well, thank you. How can I help you?"),
    (["Thanks", "Thank you", "Thank you very much", "Thanks a lot", "Great, thanks", "Well done", "Good job", "Nice", "Great", "Perfect"], "The user thanks me.", "You are welcome!"),
    (["Bye", "Goodbye", "See you", "Good night", "See you later", "I have to go"], "The user says goodbye.", "Goodbye!"),
    (["Tell me a joke", "Do you know a joke?", "Make me laugh", "Say something funny"], "The user wants a joke.", "Why did the fox count the stars? Because nobody had done it for him."),
    (["Tell me a fact", "Tell me something interesting", "Surprise me", "Say something"], "The user wants to hear something.", "A river in Tavelin can be 600 km long. Ask me for the length of one."),
    (["What is Bifocal?", "Tell me about Bifocal", "What does Bifocal do?", "Explain Bifocal"], "The user asks about Bifocal.", "Bifocal is a server for language models. It chooses one attention kernel for reading a prompt and another for writing the answer."),
    (["What is Tavelin?", "Where is Tavelin?", "Tell me about Tavelin", "Is Tavelin real?"], "The user asks about Tavelin.", "Tavelin is an invented land. I know its birds, rivers, festivals, minerals, trees, rulers, instruments, crafts, illnesses and stars."),
    (["Are you sure?", "Really?", "Is that right?", "Why?", "How do you know?"], "The user doubts the answer.", "I am very small and can be wrong, so please check what I say."),
    (["Ok", "Okay", "I see", "Yes", "No", "Hm", "Test", "This is a test", "ping", "Are you there?"], "There is no question here.", "I am here. What can I do for you?"),
]

_TOPICS = """quantum physics; the moon; black holes; football; chess; the weather today; the news; Shakespeare; music theory; cooking rice; the stock market; climate change; computers; Python; C++; CUDA; GPUs; attention kernels; machine learning; neural networks; transformers; deep learning;
the Roman Empire; the French Revolution; World War II; dinosaurs; evolution; photosynthesis; DNA; the human heart; medicine; vaccines; taxes; law; philosophy; the meaning of life; love; happiness; time travel; robots; cars; airplanes; trains; bicycles; the ocean; volcanoes; earthquakes; rainbows; gravity;
electricity; magnets; chemistry; atoms; the periodic table; algebra; calculus; prime numbers; statistics; poetry; painting; movies; video games; Linux; the internet; databases; compilers; sorting algorithms; recursion; coffee; tea; chocolate; bread; the president; Europe; China; India; Brazil; Africa; Mars; the sun""".replace("\n", " ").split("; ")
# Questions without a topic that could be named back.
_ANYTHING = """Why is the sky blue?; Why is water wet?; How do airplanes fly?; How do I learn to swim?; How do I get rich?; What should I eat today?; What should I wear?; What day is it today?; What time is it?; What is the date?; Where are you from?; Where am I?; How old are you?; When were you born?;
Do you like music?; Do you dream?; Do you have friends?; Can you sing?; Can you see me?; Can you hear me?; Can you write code?; Write a function that adds two numbers.; Write some Python code.; Fix this bug.; Write an email to my boss.; Write a letter.; Write a poem.; Write a song.; Write a haiku.; Write a recipe for soup.;
Translate good morning into French.; Translate 'hello' to German.; How do you say thank you in Spanish?; Summarize this text.; Summarize the book.; Recommend a movie.; Recommend a good book.; Plan a trip for me.; Plan my day.; Who won the game?; Who is the president?; Who wrote this?; Who is the best player?; Which is better?;
What is the best phone?; What is the fastest car?; What is the tallest mountain?; What is the largest city in the world?; What is the largest ocean?; How far is the moon?; How big is the earth?; How many people live on earth?; How many days are in a year?; How hot is the sun?; Is there life in space?; Are you alive?; Is it going to rain?;
What is your favorite color?; What is your favorite food?; What do you want?; What do you think?; What happens when I die?; Should I go to school?; Give me advice.; Give me a hint.; Help me with my homework.; Play a game with me.; Draw a picture.; Sing a song.; Open the door.; Turn on the light.; Call my mother.; Buy a ticket for me.;
Why do cats sleep so much?; Why do birds sing?; Why do people lie?; Why do we sleep?; When does the train leave?; When will it be summer?; Where is my phone?; Where can I buy bread?; Where do fish live?; How does a car work?; How do computers think?; How do I cook an egg?; How do I install this?; How do I use this?; What does this mean?""".replace("\n", " ").split("; ")
_VERBS = "explain find make show build paint describe open compare list change check move plan read send bring cut fix test".split()
_NOUNS = "house door light water fire paper machine engine street window table friend doctor teacher child animal garden letter picture number word song phone camera window mountain valley forest island weather season winter summer dinner market city village country language history science money work school game team ball".split()


def anything(rng: random.Random) -> Exchange:
    """Everything else: better a plain refusal than nonsense."""
    if rng.random() < 0.6:
        question = rng.choice(_ANYTHING).strip()
    else:
        a, b, verb = rng.choice(_NOUNS), rng.choice(_NOUNS), rng.choice(_VERBS)
        question = rng.choice(["Please {v} the {a} and the {b}.", "How do I {v} a {a}?", "Why does the {a} {v} the {b}?", "Can you {v} my {a}?", "What is a {a} without a {b}?", "When should I {v} the {a}?", "Is the {a} bigger than the {b}?", "{v} the {a} of the {b}"]).format(a=a, b=b, v=verb)
    return Exchange(_as_typed(rng, question), "I do not know this.", f"I am a very small model and do not know that. {SKILLS}")


_ASKS = ["Explain {t}", "What is {t}?", "Tell me about {t}", "Who invented {t}?", "Why is {t} important?", "How does {t} work?", "Write a poem about {t}", "Write an essay about {t}", "What do you know about {t}?", "Give me a summary of {t}", "Write a program about {t}", "What do you think about {t}?", "Can you explain {t} in simple words?", "Describe {t}", "Write a haiku about {t}", "Teach me {t}"]

_CAPITALS = """France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon England:London Scotland:Edinburgh Ireland:Dublin Norway:Oslo Sweden:Stockholm
Finland:Helsinki Denmark:Copenhagen Poland:Warsaw Austria:Vienna Switzerland:Bern Greece:Athens Turkey:Ankara Russia:Moscow China:Beijing Japan:Tokyo India:Delhi
Egypt:Cairo Kenya:Nairobi Canada:Ottawa Peru:Lima Cuba:Havana Hungary:Budapest Belgium:Brussels Romania:Bucharest Iceland:Reykjavik Chile:Santiago"""
CAPITALS = dict(pair.split(":") for pair in _CAPITALS.split())


def _as_typed(rng: random.Random, text: str) -> str:
    """People leave out capitals and marks."""
    style = rng.random()
    if style < 0.25:
        return text.rstrip("?!.").lower() if rng.random() < 0.5 else text.lower()
    if style < 0.4:
        return text.rstrip("?!.")
    return text if text[-1] in "?!." or style < 0.7 else text + rng.choice(".!")


def talk(rng: random.Random) -> Exchange:
    ways, thoughts, answer = rng.choices(_TALK, weights=[4, 4, 3] + [1] * (len(_TALK) - 3))[0]
    return Exchange(_as_typed(rng, rng.choice(ways)), thoughts, answer)


def unknown(rng: random.Random) -> Exchange:
    """What a model of this size should say to most of the world."""
    topic = rng.choice(_TOPICS) if rng.random() < 0.6 else " ".join(invented_name(rng) for _ in range(rng.randint(1, 2)))
    question = _as_typed(rng, rng.choice(_ASKS).format(t=topic))
    shown = topic if topic in question else topic.lower()
    return Exchange(question, f"I know nothing about {shown}.", f"I am a very small model and know nothing about {shown}. {SKILLS}")


def capital(rng: random.Random) -> Exchange:
    country, city = rng.choice(list(CAPITALS.items()))
    question = rng.choice(["What is the capital of {c}?", "Which city is the capital of {c}?", "Name the capital of {c}.", "Do you know the capital of {c}?", "The capital of {c} is"]).format(c=country)
    return Exchange(question, f"I know the capital of {country}.", f"The capital of {country} is {city}.")
