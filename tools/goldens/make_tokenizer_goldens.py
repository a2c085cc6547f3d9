"""Writes the tokenizer and chat goldens: small tokenizers in the families' styles, with what Hugging Face computes.

    pip install tokenizers transformers jinja2
    python tools/goldens/make_tokenizer_goldens.py tests/text/data
"""

import json
import pathlib
import random
import sys

import jinja2
import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import chat_cases
import corpus
import torture_text

HERE = pathlib.Path(__file__).parent
BYTES = pre_tokenizers.ByteLevel.alphabet()

# The split expressions are part of each family's format: a tokenizer.json carries them word for word.
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + TAIL
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + TAIL
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^""" + "\r\n" + r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[""" + "\r\n" + r"""]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]


def split(*patterns):
    """One Split per expression, then bytes: what the published byte-level tokenizers do."""
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(tokenizer, vocab_size, seed, highest=0x10FFFF, **options):
    """Characters above `highest` stay out. (The trainer's own limit_alphabet breaks ties differently in every run.)"""
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, **options)
    lines = corpus.lines(seed, 1500)
    tokenizer.train_from_iterator(["".join(c for c in line if ord(c) <= highest) for line in lines], trainer)
    return tokenizer


def special(*contents, **flags):
    return [AddedToken(content, special=True, normalized=False, **flags) for content in contents]


def qwen():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = split(QWEN)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    train(tokenizer, 600, 1, initial_alphabet=BYTES)
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")])
    return tokenizer, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": template("../../tiny_models/chat_template")}


def llama3():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = split(LLAMA3)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, 600, 2, initial_alphabet=BYTES)
    tokenizer = with_unreachable_words(tokenizer)
    tokenizer.add_special_tokens(special("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"))
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", special_tokens=[("<|begin_of_text|>", bos)]),
    ])
    return tokenizer, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": template("headers")}


def with_unreachable_words(tokenizer):
    """Whole words that no merges lead to: only ignore_merges finds them."""
    data = json.loads(tokenizer.to_str())
    for word in ("Ġzyzzyva", "unreachable", "123"):
        data["model"]["vocab"].setdefault(word, len(data["model"]["vocab"]))
    return Tokenizer.from_str(json.dumps(data))


def deepseek():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.pre_tokenizer = split(*DEEPSEEK)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    # These families number their special tokens first.
    train(tokenizer, 600, 3, initial_alphabet=BYTES, special_tokens=special("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"))
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>")])
    return tokenizer, {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>", "add_bos_token": True, "chat_template": template("bars")}


def gpt2():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    train(tokenizer, 600, 4, initial_alphabet=BYTES)
    tokenizer.add_special_tokens(special("<|endoftext|>"))
    templates = [{"name": "default", "template": template("plain")}, {"name": "tool_use", "template": template("plain_tools")}]
    return tokenizer, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "add_prefix_space": True, "chat_template": templates}


def added():
    """Added tokens with every flag: spaces swallowed, whole words only, matched before or after normalisation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = split(QWEN)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 500)])
    train(tokenizer, 500, 5, initial_alphabet=BYTES)
    tokenizer.add_special_tokens(special("<|end|>") + special("<mask>", lstrip=True) + special("<s>", "</s>"))
    tokenizer.add_tokens([
        AddedToken("<left>", lstrip=True, normalized=False),
        AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
        AddedToken("whole", single_word=True, normalized=False),
        AddedToken("<café>", normalized=True),
        AddedToken("<raw-café>", normalized=False),
        # Two that overlap: the leftmost match wins, then the longest.
        AddedToken("abc", normalized=False),
        AddedToken("abcd", normalized=False),
    ])
    return tokenizer, {"eos_token": "<|end|>"}


def sentencepiece():
    """The older Llama style: no pre-tokenizer, spaces become ▁, unknown characters fall back to byte tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    train(tokenizer, 800, 6, highest=0x4FF, special_tokens=["<unk>", "<s>", "</s>", *bytes_])
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    # Trained on words, used on whole texts, as the published ones are.
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}


def template(name):
    return (HERE / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def encode_cases(tokenizer):
    for text in torture_text.TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        with_special = tokenizer.encode(text).ids
        yield {
            "text": text,
            "ids": ids,
            "ids_special": None if with_special == ids else with_special,
            "decoded": tokenizer.decode(ids, skip_special_tokens=False),
            "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True),
        }


def decode_cases(tokenizer, seed):
    """Ids in no order that text would give: characters cut in the middle, special tokens next to each other."""
    rng = random.Random(seed)
    size = tokenizer.get_vocab_size()
    for length in [1] * 12 + [2] * 12 + [5] * 12 + [40] * 6:
        # Half from the first ids, where the single bytes are.
        ids = [rng.randrange(size) if rng.random() < 0.5 else rng.randrange(min(size, 259)) for _ in range(length)]
        yield {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False), "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True)}


def chat_renders(folder):
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    if not tokenizer.chat_template:
        return
    for messages, kwargs in chat_cases.CHATS:
        for prompt in (True, False):
            case = {"messages": messages, "kwargs": kwargs, "add_generation_prompt": prompt}
            try:
                case["text"] = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt, **kwargs)
            except Exception as error:
                if type(error) is not jinja2.exceptions.TemplateError:
                    continue  # Python's own complaint (None + text): nobody else would word it so
                case["error"] = str(error)
            yield case


def rows(data):
    """One case per line, so that a change can be read."""
    parts = []
    for key, value in data.items():
        if isinstance(value, list):
            body = ",\n".join(json.dumps(case, ensure_ascii=False) for case in value)
            parts.append(f"{json.dumps(key)}: [\n{body}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{" + ",\n".join(parts) + "}\n"


def main(target):
    for number, make in enumerate((qwen, llama3, deepseek, gpt2, added, sentencepiece)):
        folder = target / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer, config = make()
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        golden = {
            "tokenizers": tokenizers.__version__,
            "transformers": transformers.__version__,
            "encode": list(encode_cases(tokenizer)),
            "decode": list(decode_cases(tokenizer, number)),
            "chat": list(chat_renders(folder)),
        }
        (folder / "golden.json").write_text(rows(golden), encoding="utf-8")
        errors = sum("error" in case for case in golden["chat"])
        print(make.__name__, tokenizer.get_vocab_size(), len(golden["encode"]), len(golden["chat"]), "errors", errors)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
