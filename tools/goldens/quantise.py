"""Packs weights into the quantised formats of checkpoints, for the goldens: plain rounding to nearest, no calibration.

Each function takes a state dict and returns
    file:   the tensors of the quantised checkpoint,
    values: the state dict that these stand for, in float32,
    config: quantization_config.
Packing `values` again gives the same file.
"""

import torch

FP8_BLOCK = (24, 20)
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
MX_BLOCK = 32


def fp8_linears(state: dict[str, torch.Tensor]) -> dict:
    """Every projection of the layers: e4m3 codes and a float32 scale per block, a power of two so that packing again changes nothing."""
    rows, columns = FP8_BLOCK
    file, values = {}, {}
    for name, weight in state.items():
        if not name.endswith("_proj.weight"):
            file[name] = values[name] = weight
            continue
        n, k = weight.shape
        scales = torch.empty(-(-n // rows), -(-k // columns))
        codes = torch.empty(n, k, dtype=torch.float8_e4m3fn)
        for i in range(scales.shape[0]):
            for j in range(scales.shape[1]):
                block = (slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns))
                scales[i, j] = 2.0 ** torch.ceil(torch.log2(weight[block].abs().max() / 448))
                codes[block] = (weight[block] / scales[i, j]).to(torch.float8_e4m3fn)
        file[name], file[f"{name}_scale_inv"] = codes, scales
        values[name] = codes.float() * scales.repeat_interleave(rows, 0)[:n].repeat_interleave(columns, 1)[:, :k]
    config = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": list(FP8_BLOCK)}
    return {"file": file, "values": values, "config": config}


def mxfp4_experts(state: dict[str, torch.Tensor]) -> dict:
    """The experts' matrices [E, in, out]: codes and scales [E, out, in / 32]."""
    file, values = {}, {}
    for name, weight in state.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            file[name] = values[name] = weight
            continue
        blocks = weight.transpose(1, 2).unflatten(-1, (-1, MX_BLOCK))  # [E, out, in / 32, 32]
        exponents = torch.floor(torch.log2(blocks.abs().amax(-1).clamp(min=2.0**-120))) - 2
        scaled = blocks / torch.exp2(exponents)[..., None]
        codes = (scaled.abs()[..., None] - E2M1).abs().argmin(-1)
        magnitudes = E2M1[codes]
        codes = codes + 8 * (scaled < 0)
        file[f"{name}_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        file[f"{name}_scales"] = (exponents + 127).to(torch.uint8)
        signed = torch.where(scaled < 0, -magnitudes, magnitudes) * torch.exp2(exponents)[..., None]
        values[name] = signed.flatten(-2).transpose(1, 2).contiguous()
    config = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    return {"file": file, "values": values, "config": config}
