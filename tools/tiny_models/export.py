"""Writes a trained network as a Hugging Face checkpoint: bf16 weights, tokenizer, chat template."""

import json
import pathlib

import torch
import transformers
from tokenizers import Tokenizer

from architectures import ARCHITECTURES
from network import Network, Shape

HERE = pathlib.Path(__file__).parent


def empty_model(arch: str, shape: Shape, tokenizer: Tokenizer) -> transformers.PreTrainedModel:
    return ARCHITECTURES[arch].model(
        shape,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
    )


def _write(path: pathlib.Path, data: dict) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_tokenizer(folder: pathlib.Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {str(i): {"content": t.content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": t.special} for i, t in tokenizer.get_added_tokens_decoder().items()}
    _write(folder / "tokenizer_config.json", {
        "added_tokens_decoder": added,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "chat_template": (HERE / "chat_template.jinja").read_text(encoding="utf-8"),
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "model_max_length": 8192,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    })


def write(folder: pathlib.Path, arch: str, network: Network, shape: Shape, tokenizer: Tokenizer) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = empty_model(arch, shape, tokenizer).eval()
    missing, unexpected = model.load_state_dict(ARCHITECTURES[arch].weights(network.cpu().float().eval()), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    _check(model, network)
    model.to(torch.bfloat16).save_pretrained(folder)
    write_tokenizer(folder, tokenizer)
    ends = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    # Stories differ when sampled; sums stay right at this temperature. Greedy decoding is what the figures use.
    _write(folder / "generation_config.json", {"do_sample": True, "eos_token_id": ends, "pad_token_id": ends[1], "temperature": 0.5, "top_k": 20, "top_p": 0.9})


@torch.no_grad()
def _check(model: transformers.PreTrainedModel, network: Network) -> None:
    """transformers' own code must compute what was trained."""
    ids = torch.arange(300)[None] * 7 % 2000
    difference = (model(ids).logits - network(ids)).abs().max().item()
    assert difference < 1e-3, f"logits differ from the training code's by {difference}"
