"""Writes conversations as chat_template.jinja renders them, with a loss weight for every piece."""

import json
from dataclasses import dataclass, field

Piece = tuple[str, float]

READ = 0.05  # what others say: worth a little
SKIP = 0.0  # what the template writes
SAY = 1.0  # what the model must say
STOP = 3.0  # knowing when to stop is one token among many


@dataclass
class Exchange:
    """A question and how the model answers it, with or without thinking."""

    user: str
    thoughts: str  # shown when the model thinks
    answer: str
    direct: str = ""  # the answer without thinking, where it must work the result out itself
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # tool calls that come first
    replies: list[str] = field(default_factory=list)  # and what they return
    weight: float = SAY


def call_text(name: str, arguments: dict[str, str]) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}\n</tool_call>'


def system_turn(text: str, tools: list[dict] | None = None) -> str:
    if tools:
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        note = f'# Tools\n\nYou can call these functions:\n<tools>\n{listed}\n</tools>\n\nA call is one JSON object with name and arguments:\n<tool_call>\n{{"name": "NAME", "arguments": {{}}}}\n</tool_call>'
        text = f"{text}\n\n{note}" if text else note
    return f"<|im_start|>system\n{text}<|im_end|>\n" if text else ""


def _answer(text: str, thoughts: str | None, weight: float) -> list[Piece]:
    """An assistant turn that ends the text so far. `thoughts` is None when the template closes the thinking block."""
    end: list[Piece] = [("<|im_end|>", STOP), ("\n", SKIP)]
    if thoughts is None:
        # The empty block carries no loss: after a bare prompt the model must think.
        return [("<|im_start|>assistant\n<think>\n\n</think>\n\n", SKIP), (text, weight), *end]
    return [("<|im_start|>assistant\n", SKIP), (f"<think>\n{thoughts}\n</think>\n\n{text}", weight), *end]


def conversation(exchanges: list[Exchange], thinking: bool, system: str = "", tools: list[dict] | None = None) -> list[Piece]:
    """Earlier answers appear as the template shows them, without thoughts; only the last question's answers are learned."""
    pieces: list[Piece] = [(system_turn(system, tools), READ)]
    for exchange in exchanges[:-1]:
        pieces.append((f"<|im_start|>user\n{exchange.user}<|im_end|>\n<|im_start|>assistant\n{exchange.answer}<|im_end|>\n", SKIP))
    last = exchanges[-1]
    pieces.append((f"<|im_start|>user\n{last.user}<|im_end|>\n", READ))
    if last.calls:
        calls = "\n".join(call_text(*call) for call in last.calls)
        needs = f"The function {last.calls[0][0]} can answer this."
        said = _answer(calls, needs if thinking else None, last.weight)
        if not last.replies:
            return pieces + said
        # Once the conversation goes on, the template shows the call with its thoughts, but never an empty block.
        shown = f"<think>\n{needs}\n</think>\n\n{calls}" if thinking else calls
        pieces.append((f"<|im_start|>assistant\n{shown}<|im_end|>\n", SKIP))
        replies = "".join(f"\n<tool_response>\n{reply}\n</tool_response>" for reply in last.replies)
        pieces.append((f"<|im_start|>user{replies}<|im_end|>\n", SKIP))
    return pieces + _answer(last.answer if thinking else last.direct or last.answer, last.thoughts if thinking else None, last.weight)
