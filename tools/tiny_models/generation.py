"""Batched greedy completions with transformers' own code."""

import os

import torch
import transformers


class Greedy:
    def __init__(self, folder: str | os.PathLike, dtype: torch.dtype, device: str) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
        self.device = device
        # Pairs of a query and a key: some architectures keep every score of a layer in memory, several times over.
        self.pairs_at_once = 500_000_000 if self.model.config._attn_implementation == "eager" else 10**12
        self.model.generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=self.tokenizer.pad_token_id)

    @torch.no_grad()
    def complete(self, prompts: list[str], new_tokens: int, stop: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>"), tokens_at_once: int = 400_000) -> list[str]:
        """Answers in the prompts' order. `stop` names single tokens; the answer ends before one."""
        ends = [self.tokenizer.encode(text, add_special_tokens=False) for text in stop]
        assert all(len(ids) == 1 for ids in ends), ends
        ends = [ids[0] for ids in ends]
        encoded = [self.tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        answers = [""] * len(prompts)
        while order:
            longest = len(encoded[order[-1]]) + new_tokens
            batch = order[-max(1, min(tokens_at_once // longest, self.pairs_at_once // longest**2)) :]
            order = order[: -len(batch)]
            padded = self.tokenizer.pad({"input_ids": [encoded[i] for i in batch]}, return_tensors="pt").to(self.device)
            out = self.model.generate(**padded, max_new_tokens=new_tokens, eos_token_id=ends)
            for i, ids in zip(batch, out[:, padded["input_ids"].shape[1] :].tolist()):
                cut = next((at for at, token in enumerate(ids) if token in ends), len(ids))
                answers[i] = self.tokenizer.decode(ids[:cut], skip_special_tokens=False)
        return answers
