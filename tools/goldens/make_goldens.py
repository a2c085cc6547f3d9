"""Writes small checkpoints and what transformers computes with them: float32, eager attention, on the CPU.

    pip install torch transformers safetensors
    python tools/goldens/make_goldens.py tests/golden/data

Every norm and bias is perturbed, so that one left out, misplaced or mixed up moves the logits. Prompts are drawn until every greedy step
is decided by a margin, so that rounding cannot change the continuation.
"""

import json
import pathlib
import shutil
import sys
from dataclasses import dataclass

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

LENGTHS = (1, 2, 7, 17, 64, 200, 333)
ALL_POSITIONS = 64  # longer prompts keep the last four positions only
GREEDY = 24
MARGIN = 1e-2
SEED = 7
VOCAB = 256
COMMON = {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 3, "rms_norm_eps": 1e-5, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


@dataclass(frozen=True)
class Variant:
    name: str
    model: type[PreTrainedModel]
    config: PreTrainedConfig
    margin: float = MARGIN


def variants() -> list[Variant]:
    """No two sizes of one model are equal where a mix-up should show: heads x head_dim differs from hidden, kv heads from heads."""
    default = {"rope_type": "default", "rope_theta": 1e4}
    return [
        Variant("qwen3", Qwen3ForCausalLM, Qwen3Config(**COMMON, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=False)),
        Variant("qwen3-tied-yarn", Qwen3ForCausalLM, Qwen3Config(**COMMON, intermediate_size=80, num_attention_heads=2, num_key_value_heads=1, head_dim=64, max_position_embeddings=640, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}, tie_word_embeddings=True)),
        Variant("qwen2", Qwen2ForCausalLM, Qwen2Config(**COMMON, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, rope_parameters=default, tie_word_embeddings=True)),
        Variant("llama3", LlamaForCausalLM, LlamaConfig(**COMMON, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, rope_parameters={"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}, tie_word_embeddings=True)),
        Variant("llama2", LlamaForCausalLM, LlamaConfig(**COMMON, intermediate_size=80, num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024, rope_parameters=default, tie_word_embeddings=False)),
        # Two layers see 16 keys and two see all; every projection of attention has a bias.
        Variant("qwen3-sliding-bias", Qwen3ForCausalLM, Qwen3Config(**{**COMMON, "num_hidden_layers": 4}, intermediate_size=112, num_attention_heads=6, num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, rope_parameters=default, tie_word_embeddings=False, attention_bias=True, use_sliding_window=True, sliding_window=16, max_window_layers=2), margin=1e-3),
        Variant("llama-all-biases-linear", LlamaForCausalLM, LlamaConfig(**COMMON, intermediate_size=112, num_attention_heads=4, num_key_value_heads=1, head_dim=24, max_position_embeddings=1024, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}, tie_word_embeddings=False, attention_bias=True, mlp_bias=True), margin=1e-3),
    ]


def perturbed(variant: Variant, generator: torch.Generator) -> PreTrainedModel:
    """Random weights that keep activations near 1 and leave no norm or bias at its neutral value."""
    variant.config._attn_implementation = "eager"
    model = variant.model(variant.config).eval().float()
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.copy_(1 + 0.2 * noise)
        elif name.endswith("bias"):
            parameter.copy_(0.2 * noise)
        elif "embed" in name:
            parameter.copy_(noise)
        else:
            parameter.copy_(noise / parameter.shape[-1] ** 0.5)
    if model.config.tie_word_embeddings:
        # A tied table of unit variance would give logits of 8 and more; its rows are also the inputs, which the first norm rescales.
        model.get_input_embeddings().weight.mul_(0.3)
    return model


def logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def rounded(values: torch.Tensor) -> list:
    return [[round(v, 5) for v in row] for row in values.tolist()] if values.ndim == 2 else [round(v, 5) for v in values.tolist()]


def greedy(model: PreTrainedModel, prompt: list[int]) -> tuple[list[int], list[float]]:
    """The whole sequence is computed anew at every step: no cache to be wrong."""
    ids, margins = list(prompt), []
    for _ in range(GREEDY):
        top = logits(model, ids)[-1].topk(2)
        margins.append((top.values[0] - top.values[1]).item())
        ids.append(int(top.indices[0]))
    return ids[len(prompt) :], margins


def case(model: PreTrainedModel, narrow: PreTrainedModel, prompt: list[int]) -> dict:
    out = logits(model, prompt)
    kept = out if len(prompt) <= ALL_POSITIONS else out[-4:]
    top = kept.topk(8)
    narrow_last = logits(narrow, prompt)[-1]
    tokens, margins = greedy(model, prompt)
    return {
        "prompt": prompt, "top_ids": top.indices.tolist(), "top_logits": rounded(top.values), "last_logits": rounded(out[-1]), "last_logprobs": rounded(out[-1].log_softmax(-1)),
        "greedy": tokens, "greedy_margin": rounded(torch.tensor(margins)), "last_logits_bf16": rounded(narrow_last), "bf16_max_abs_err": round((narrow_last - out[-1]).abs().max().item(), 5),
    }


def decided_prompt(model: PreTrainedModel, length: int, margin: float, generator: torch.Generator) -> list[int]:
    """Prompts are drawn until one leads to a continuation without close calls."""
    for _ in range(500):
        prompt = torch.randint(0, VOCAB, (length,), generator=generator).tolist()
        if min(greedy(model, prompt)[1]) > margin:
            return prompt
    raise RuntimeError(f"no prompt of {length} ids decides every step by more than {margin}")


def write_json(path: pathlib.Path, data: dict) -> None:
    path.write_text(json.dumps(data) + "\n", encoding="utf-8")


def write(variant: Variant, target: pathlib.Path) -> pathlib.Path:
    generator = torch.Generator().manual_seed(SEED)
    model = perturbed(variant, generator)
    prompts = [decided_prompt(model, length, variant.margin, generator) for length in LENGTHS]
    folder = target / variant.name
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    narrow = variant.model.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    cases = [case(model, narrow, prompt) for prompt in prompts]
    write_json(folder / "golden.json", {"arch": variant.name, "seed": SEED, "transformers": transformers.__version__, "torch": torch.__version__, "dtype": "float32", "cases": cases})
    margin = min(min(c["greedy_margin"]) for c in cases)
    print(f"{variant.name}: smallest margin {margin}, bf16 error {max(c['bf16_max_abs_err'] for c in cases)}, largest logit {max(max(c['last_logits']) for c in cases)}")
    return folder


def copy(source: pathlib.Path, folder: pathlib.Path) -> None:
    """With fewer cases: only the reading of files differs."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    golden["cases"] = [case for case in golden["cases"] if len(case["prompt"]) in (7, 200)]
    write_json(folder / "golden.json", golden)


def write_sharded(source: pathlib.Path) -> None:
    """The same weights in three files and an index."""
    folder = source.with_name(f"{source.name}-sharded")
    copy(source, folder)
    (folder / "model.safetensors").unlink()
    tensors = load_file(source / "model.safetensors")
    names, weight_map = sorted(tensors), {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        part = names[number::3]  # a layer's tensors lie in different files
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= {name: file for name in part}
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}, indent=2) + "\n", encoding="utf-8")


def write_old_keys(source: pathlib.Path) -> None:
    """The same checkpoint with the keys that files had before transformers 5, and the older `type` for `rope_type`."""
    folder = source.with_name(f"{source.name}-old-keys")
    copy(source, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    config["transformers_version"] = "4.51.0"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(target: pathlib.Path) -> None:
    torch.set_grad_enabled(False)
    folders = {variant.name: write(variant, target) for variant in variants()}
    write_sharded(folders["llama2"])
    write_old_keys(folders["qwen3-tied-yarn"])


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
