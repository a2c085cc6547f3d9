"""Trains one network: fixed steps and tokens, one seed, one GPU."""

import time
from collections.abc import Callable

import torch

from experts import Router
from muon import Muon
from network import Network, Shape, is_matrix
from shards import STEP_TOKENS, Stream

WARM_UP = 150
SAVE_EVERY_S = 60
FLAT = 0.25  # share of the steps at the full rate; then it falls to zero in a line


def rate(step: int, done: float) -> float:
    """Share of the full rate at this step, when this share of the training lies behind."""
    return min(1.0, (step + 1) / WARM_UP, (1 - done) / (1 - FLAT))


def train(seed: int, shape: Shape, stream: Stream, short_steps: int, long_steps: int, seconds: float, save: Callable[[Network], None], say: Callable[[str], None] = print) -> tuple[Network, int, int]:
    """Ends after these steps, or after these seconds with the same shares of short and long rows. The network, and the steps done with each."""
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    network = Network(shape).cuda()
    inner = {n for n, p in network.named_parameters() if is_matrix(n, p) and not any(word in n for word in ("embed", ".gate.", "router"))}
    optimizers = [
        Muon([p for n, p in network.named_parameters() if n in inner], lr=0.02),
        torch.optim.AdamW([p for n, p in network.named_parameters() if n not in inner], lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    routers = [module for module in network.modules() if isinstance(module, Router)]
    base = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    loss_of = torch.compile(network.loss, dynamic=False)
    steps, short_share = short_steps + long_steps, short_steps / (short_steps + long_steps)
    counts = {2048: 0, 8192: 0}
    begun = last = saved = time.monotonic()
    total = torch.zeros((), device="cuda")
    for step, (ids, weights) in enumerate(stream):
        now = time.monotonic()
        done = max(step / steps, (now - begun) / seconds)
        if done >= 1:
            break
        if done >= short_share:
            stream.leave_out_below(8192)
        scale = rate(step, done)
        for group, lr in zip((g for o in optimizers for g in o.param_groups), base):
            group["lr"] = lr * scale
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(torch.from_numpy(ids).cuda(), torch.from_numpy(weights).cuda())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for router in routers:
            router.rebalance(scale)
        total += loss.detach()
        counts[ids.shape[1] - 1] += 1
        if (step + 1) % 200 == 0:
            mean = total.item() / 200
            now = time.monotonic()
            say(f"seed {seed} step {step + 1}/{steps} rows of {ids.shape[1] - 1} loss {mean:.4f} {200 * STEP_TOKENS / (now - last) / 1e6:.2f} M tokens/s {now - begun:.0f} s")
            total.zero_()
            last = now
            if now - saved > SAVE_EVERY_S:
                save(network)
                saved = now
    torch.set_float32_matmul_precision("highest")  # measuring comes next
    return network.eval(), counts[2048], counts[8192]
