"""Ten thousand broken requests: none crashes the server, none stays behind, a good one always works."""
import json
import random
import socket

SEED = 20261122
COUNT = 10_000
GOOD = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "temperature": 0}
VALUES = [None, True, -1, 0, 1, 2**31, 2**63, -(2**63), 1e309, 0.5, "", "x", "\ud800", [], [[]], {}, {"a": {}}, ["x"] * 50, "é" * 100]
FIELDS = ["model", "messages", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "stop", "logit_bias", "seed", "stream",
          "stream_options", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "repetition_penalty", "tools",
          "tool_choice", "response_format", "chat_template_kwargs", "min_tokens", "ignore_eos", "stop_token_ids", "user"]
PATHS = ["/v1/chat/completions", "/v1/completions", "/generate", "/tokenize", "/detokenize", "/abort_request"]


def broken_body(rng):
    body = dict(GOOD, prompt="Hi", text="Hi", sampling_params={"max_new_tokens": 1})
    for _ in range(rng.randint(1, 3)):
        target = body if rng.random() < 0.7 else body["sampling_params"] if isinstance(body["sampling_params"], dict) else body
        target[rng.choice(FIELDS)] = rng.choice(VALUES)
    text = json.dumps(body).encode()
    kind = rng.random()
    if kind < 0.15:
        text = text[: rng.randrange(len(text))]
    elif kind < 0.3:
        text = bytearray(text)
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        text = bytes(text)
    elif kind < 0.35:
        text = rng.choice([b"[" * 5000, b'{"a":' * 5000, b"\x00", b"", b"nul", b"\xff\xfe", b'{"n":1,"n":2}'])
    return text


def request_bytes(rng):
    """The bytes, and whether they may leave the server waiting for more."""
    body = broken_body(rng)
    path = rng.choice(PATHS)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    if rng.random() < 0.02:
        return head.encode()[: rng.randrange(len(head))], True
    if rng.random() < 0.1:
        head = rng.choice([
            head.replace("Content-Length: ", "Content-Length: -"), head.replace("HTTP/1.1", "HTTP/9.9"), head.replace("POST", "P ST"),
            head.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"), head.replace("Host", " Host"),
            head.replace("application/json", "text/plain"), head.replace("/", "/../%2e%2e//", 1), "\r\n\r\n",
        ])
    return head.encode() + body, False


def ask(port, data, unfinished):
    """The answer's status, or 0 when the server closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            connection.sendall(data)
            if unfinished:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:
            return 0
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_ten_thousand_malformed_requests(server):
    rng = random.Random(SEED)
    seen = {}
    for number in range(COUNT):
        data, unfinished = request_bytes(rng)
        status = ask(server.port, data, unfinished)
        assert status < 500, (number, status, data[:2000])
        seen[status] = seen.get(status, 0) + 1
        if number % 1000 == 999:
            reply = server.post("/v1/chat/completions", GOOD | {"model": "tiny-qwen3"})
            assert reply["usage"]["completion_tokens"] == 1
            assert server.get("/health")[0] == 200
    assert server.process.poll() is None
    assert seen.get(400, 0) > COUNT // 4 and seen.get(200, 0) > COUNT // 50, seen
