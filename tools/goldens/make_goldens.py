"""Writes small checkpoints and what transformers computes with them: float32, eager attention, on the CPU.

    pip install torch transformers safetensors
    python tools/goldens/make_goldens.py tests/golden/data [NAME ...]

Every norm and bias is perturbed, so that one left out, misplaced or mixed up moves the logits. Prompts are drawn until every greedy step
is decided by a margin, so that rounding cannot change the continuation, nor which experts a token goes to.
"""

import json
import pathlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import quantise
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM, GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

LENGTHS = (1, 2, 7, 17, 64, 200, 333)
ALL_POSITIONS = 64  # longer prompts keep the last four positions only
GREEDY = 24
MARGIN = 1e-2
ROUTING_MARGIN = 2e-5  # between the last expert chosen and the first that is not; rounding errors are near 1e-6
SEED = 7
VOCAB = 256
COMMON = {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 3, "rms_norm_eps": 1e-5, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
SMALL = {**COMMON, "hidden_size": 32}
SHORTER = (1, 7, 17, 64, 200)
MOE_ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "tie_word_embeddings": False}


@dataclass(frozen=True)
class Variant:
    name: str
    model: type[PreTrainedModel]
    config: PreTrainedConfig
    margin: float = MARGIN
    lengths: tuple[int, ...] = LENGTHS
    rewrite: Callable[[pathlib.Path], None] | None = None  # the files, after transformers wrote them
    quantise: Callable[[dict], dict] | None = None  # the weights' names and values in the file; the model computes with what they stand for


def variants() -> list[Variant]:
    """No two sizes of one model are equal where a mix-up should show: heads x head_dim differs from hidden, kv heads from heads."""
    default = {"rope_type": "default", "rope_theta": 1e4}
    return [
        Variant("qwen3", Qwen3ForCausalLM, Qwen3Config(**COMMON, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=False)),
        Variant("qwen3-tied-yarn", Qwen3ForCausalLM, Qwen3Config(**COMMON, intermediate_size=80, num_attention_heads=2, num_key_value_heads=1, head_dim=64, max_position_embeddings=640, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}, tie_word_embeddings=True)),
        Variant("qwen2", Qwen2ForCausalLM, Qwen2Config(**COMMON, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, rope_parameters=default, tie_word_embeddings=True)),
        Variant("llama3", LlamaForCausalLM, LlamaConfig(**COMMON, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, rope_parameters={"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}, tie_word_embeddings=True)),
        # Heads as wide as kernels for tensor cores want them.
        Variant("qwen2-wide", Qwen2ForCausalLM, Qwen2Config(**{**COMMON, "hidden_size": 128}, intermediate_size=96, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=1024, rope_parameters=default, tie_word_embeddings=True)),
        Variant("llama3-wide", LlamaForCausalLM, LlamaConfig(**COMMON, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2, head_dim=128, max_position_embeddings=1024, rope_parameters={"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}, tie_word_embeddings=True)),
        Variant("llama2", LlamaForCausalLM, LlamaConfig(**COMMON, intermediate_size=80, num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024, rope_parameters=default, tie_word_embeddings=False)),
        # Two layers see 16 keys and two see all; every projection of attention has a bias.
        Variant("qwen3-sliding-bias", Qwen3ForCausalLM, Qwen3Config(**{**COMMON, "num_hidden_layers": 4}, intermediate_size=112, num_attention_heads=6, num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, rope_parameters=default, tie_word_embeddings=False, attention_bias=True, use_sliding_window=True, sliding_window=16, max_window_layers=2), margin=1e-3),
        Variant("llama-all-biases-linear", LlamaForCausalLM, LlamaConfig(**COMMON, intermediate_size=112, num_attention_heads=4, num_key_value_heads=1, head_dim=24, max_position_embeddings=1024, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}, tie_word_embeddings=False, attention_bias=True, mlp_bias=True), margin=1e-3),
        # A dense layer among those with experts.
        Variant("qwen3-moe", Qwen3MoeForCausalLM, Qwen3MoeConfig(**SMALL, **MOE_ATTENTION, intermediate_size=40, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[1]), margin=1e-3, lengths=SHORTER),
        # Weights as the softmax gives them; the second layer alone has experts, in fused tensors.
        Variant("qwen3-moe-plain-fused", Qwen3MoeForCausalLM, Qwen3MoeConfig(**SMALL, **MOE_ATTENTION, intermediate_size=40, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[]), margin=1e-3, lengths=SHORTER, rewrite=fuse_experts),
        # A limit low enough to be reached often; prompts longer than two windows.
        Variant("gpt-oss", GptOssForCausalLM, gpt_oss_config(swiglu_limit=0.7, truncate=False), margin=1e-3, lengths=SHORTER),
        Variant("gpt-oss-mxfp4-truncated", GptOssForCausalLM, gpt_oss_config(swiglu_limit=7.0, truncate=True), margin=1e-3, lengths=SHORTER, quantise=quantise.mxfp4_experts),
        # Groups of experts, biases for the choice, YaRN with its correction of the scale, an epsilon that the latents' norms must not take.
        Variant("deepseek-v3", DeepseekV3ForCausalLM, deepseek_v3_config(), margin=1e-3, lengths=SHORTER),
        # Queries without a latent; groups by their best expert, weights as the softmax gives them, scaled.
        Variant("deepseek-v2", DeepseekV2ForCausalLM, deepseek_v2_config(), margin=1e-3, lengths=SHORTER),
        # Blocks that are not square and do not divide the matrices.
        Variant("qwen3-fp8", Qwen3ForCausalLM, Qwen3Config(**SMALL, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=1024, rope_parameters=default, tie_word_embeddings=False), margin=1e-3, lengths=SHORTER, quantise=quantise.fp8_linears),
    ]


def gpt_oss_config(swiglu_limit: float, truncate: bool) -> GptOssConfig:
    rope = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 4096, "truncate": truncate}
    config = GptOssConfig(**SMALL, intermediate_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=8, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=131072, rope_parameters=rope, tie_word_embeddings=True)
    config.swiglu_limit = swiglu_limit
    return config


def deepseek_v3_config() -> DeepseekV3Config:
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 128}
    heads = {"num_attention_heads": 3, "num_key_value_heads": 3, "q_lora_rank": 20, "kv_lora_rank": 24, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 16}
    experts = {"n_routed_experts": 12, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3, "n_shared_experts": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "routed_scaling_factor": 2.5, "norm_topk_prob": True}
    return DeepseekV3Config(**{**SMALL, "rms_norm_eps": 1e-2}, **heads, **experts, intermediate_size=40, max_position_embeddings=1024, rope_parameters=rope, rope_interleave=True, attention_bias=True, tie_word_embeddings=False)


def deepseek_v2_config() -> DeepseekV2Config:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 16, "v_head_dim": 24}
    experts = {"n_routed_experts": 8, "n_group": 4, "topk_group": 2, "topk_method": "group_limited_greedy", "num_experts_per_tok": 3, "n_shared_experts": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "routed_scaling_factor": 4.0}
    return DeepseekV2Config(**SMALL, **heads, **experts, intermediate_size=40, max_position_embeddings=1024, rope_parameters={"rope_type": "default", "rope_theta": 1e4}, tie_word_embeddings=False)


def fuse_experts(folder: pathlib.Path) -> None:
    """One tensor for all experts of a layer: gate's rows, then up's."""
    tensors = load_file(folder / "model.safetensors")
    experts = sorted({name.split(".experts.")[0] + ".experts" for name in tensors if ".experts." in name})
    for prefix in experts:
        count = len({name for name in tensors if name.startswith(f"{prefix}.") and name.endswith(".up_proj.weight")})
        parts = {part: [tensors.pop(f"{prefix}.{e}.{part}.weight") for e in range(count)] for part in ("gate_proj", "up_proj", "down_proj")}
        tensors[f"{prefix}.gate_up_proj"] = torch.stack([torch.cat(pair) for pair in zip(parts["gate_proj"], parts["up_proj"], strict=True)])
        tensors[f"{prefix}.down_proj"] = torch.stack(parts["down_proj"])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def perturbed(variant: Variant, generator: torch.Generator) -> PreTrainedModel:
    """Random weights that keep activations near 1 and leave no norm or bias at its neutral value."""
    variant.config._attn_implementation = "eager"
    variant.config._experts_implementation = "eager"
    model = variant.model(variant.config).eval().float()
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.copy_(1 + 0.2 * noise)
        elif name.endswith("bias"):
            parameter.copy_(0.2 * noise)
        elif name.endswith("sinks"):
            parameter.copy_(noise)
        elif ".experts." in name and variant.model is GptOssForCausalLM:
            parameter.copy_(noise / parameter.shape[-2] ** 0.5)  # [experts, in, out]
        elif "embed" in name:
            parameter.copy_(noise)
        else:
            parameter.copy_(noise / parameter.shape[-1] ** 0.5)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(0.2 * torch.rand(buffer.shape, generator=generator))
    if model.config.tie_word_embeddings:
        # A tied table of unit variance would give logits of 8 and more; its rows are also the inputs, which the first norm rescales.
        model.get_input_embeddings().weight.mul_(0.3)
    if variant.quantise:
        stands_for = variant.quantise(model.state_dict())["values"]
        model.load_state_dict(stands_for)
    return limited(model)


def limited(model: PreTrainedModel) -> PreTrainedModel:
    """transformers does not read swiglu_limit: it computes with 7."""
    for layer in model.model.layers:
        if hasattr(model.config, "swiglu_limit"):
            layer.mlp.experts.limit = model.config.swiglu_limit
    return model


def routing_margin(model: PreTrainedModel, ids: list[int]) -> float:
    """The closest call between experts, over all positions and layers."""
    gaps = [float("inf")]

    def note(module: torch.nn.Module, _: tuple, out: tuple) -> None:
        scores = out[0].float()
        if hasattr(module, "e_score_correction_bias"):
            scores = scores.sigmoid() + module.e_score_correction_bias
        groups = getattr(module, "num_group", None) or 1
        if groups > 1:
            best = scores.view(len(scores), groups, -1).topk(2 if hasattr(module, "e_score_correction_bias") else 1).values.sum(-1)
            kept = best.topk(module.topk_group + 1)
            gaps.append((kept.values[:, -2] - kept.values[:, -1]).min().item())
            mask = torch.zeros_like(best).scatter(1, kept.indices[:, :-1], 1).repeat_interleave(scores.shape[-1] // groups, -1)
            scores = scores.masked_fill(mask == 0, float("-inf"))
        top = scores.topk(module.top_k + 1).values
        gaps.append((top[:, -2] - top[:, -1]).min().item())

    routers = [getattr(layer.mlp, "gate", None) or getattr(layer.mlp, "router", None) for layer in model.model.layers]
    hooks = [router.register_forward_hook(note) for router in routers if router is not None and hasattr(router, "top_k")]
    logits(model, ids)
    for hook in hooks:
        hook.remove()
    return min(gaps)


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
        tokens, margins = greedy(model, prompt)
        if min(margins) > margin and routing_margin(model, prompt + tokens) > ROUTING_MARGIN:
            return prompt
    raise RuntimeError(f"no prompt of {length} ids decides every step by more than {margin}")


def write_json(path: pathlib.Path, data: dict) -> None:
    path.write_text(json.dumps(data) + "\n", encoding="utf-8")


def write(variant: Variant, target: pathlib.Path) -> pathlib.Path:
    generator = torch.Generator().manual_seed(SEED)
    model = perturbed(variant, generator)
    prompts = [decided_prompt(model, length, variant.margin, generator) for length in variant.lengths]
    folder = target / variant.name
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    narrow = limited(variant.model.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval())
    if variant.quantise:
        quantised = variant.quantise(model.state_dict())
        tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
        save_file({name: value.contiguous() for name, value in quantised["file"].items() if name not in tied}, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["quantization_config"] = quantised["config"]
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if variant.rewrite:
        variant.rewrite(folder)
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


def main(target: pathlib.Path, names: list[str]) -> None:
    torch.set_grad_enabled(False)
    folders = {variant.name: write(variant, target) for variant in variants() if not names or variant.name in names}
    if "llama2" in folders:
        write_sharded(folders["llama2"])
    if "qwen3-tied-yarn" in folders:
        write_old_keys(folders["qwen3-tied-yarn"])


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
