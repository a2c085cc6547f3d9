"""A server that answers at fixed times: what a client measures of it is what the client itself is worth.

    python3 paced_server.py PORT TTFT_S GAP_S TOKENIZER_DIR

Speaks /generate, /v1/completions and /v1/chat/completions as streams, one "a" per token: the first TTFT_S after
the request came, each next one GAP_S later.
"""
import asyncio
import json
import sys

from aiohttp import web


def chunk(path, tokens):
    if path == "/generate":
        return {"text": "a " * tokens, "meta_info": {"completion_tokens": tokens}}
    if path == "/v1/completions":
        return {"choices": [{"text": "a "}]}
    return {"choices": [{"delta": {"content": "a "}}]}


def wanted(body):
    params = body.get("sampling_params", {})
    return body.get("max_tokens") or body.get("max_completion_tokens") or params["max_new_tokens"]


def application(ttft_s, gap_s, tokenizer):
    async def generate(request):
        loop = asyncio.get_running_loop()
        begin = loop.time()
        count = wanted(await request.json())
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        for i in range(count):
            await asyncio.sleep(begin + ttft_s + i * gap_s - loop.time())
            await stream.write(f"data: {json.dumps(chunk(request.path, i + 1))}\n\n".encode())
        await stream.write(b"data: [DONE]\n\n")
        return stream

    def fixed(value):
        async def answer(_):
            return web.json_response(value)

        return answer

    app = web.Application()
    for path in ("/generate", "/v1/completions", "/v1/chat/completions"):
        app.router.add_post(path, generate)
    app.router.add_post("/flush_cache", fixed({}))
    app.router.add_get("/v1/models", fixed({"data": [{"id": "paced"}]}))
    for path in ("/server_info", "/get_server_info"):
        app.router.add_get(path, fixed({"internal_states": [{}]}))
    for path in ("/model_info", "/get_model_info"):
        app.router.add_get(path, fixed({"tokenizer_path": tokenizer}))
    return app


if __name__ == "__main__":
    port, ttft_s, gap_s, tokenizer = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    web.run_app(application(ttft_s, gap_s, tokenizer), host="127.0.0.1", port=port, print=None)
