#!/usr/bin/env python3
"""Starts the server, asks it one question over HTTP, prints the answer as it comes, stops the server.

Usage: demo.py BIFOCAL MODEL. Standard library only.
"""
import http.client
import json
import re
import subprocess
import sys
import threading
import time

QUESTION = (
    "At the market, a lamp costs $4, a ribbon costs $10 and a key costs $9. Olga buys 7 keys and 2 lamps. "
    "How much does she pay in total?"
)


def start_server(binary, model):
    """The server process and its port, once it listens."""
    command = [binary, "serve", model, "--port", "8080", "--next-free-port"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        sys.stderr.write(line)
        if match := re.search(r"listening on http://[^:]+:(\d+)", line):
            # Keep draining the log so that the server never blocks on a full pipe.
            threading.Thread(target=lambda: [sys.stderr.write(rest) for rest in server.stderr], daemon=True).start()
            return server, int(match.group(1))
    sys.exit(f"the server ended with exit code {server.wait()} before it listened")


def wait_until_ready(server, port, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"the server ended with exit code {server.returncode}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    sys.exit(f"the server was not ready after {timeout_s} s")


def stream_chat(port, question):
    """Prints the reply as it arrives; returns (completion tokens, seconds to first token, seconds from there)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    body = {
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": 512,
    }
    started = time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        sys.exit(f"the server answered {response.status}: {response.read().decode()}")
    first, usage = None, {}
    for raw in response:
        line = raw.decode().strip()
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        chunk = json.loads(line[len("data: "):])
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text = (delta.get("reasoning_content") or "") + (delta.get("content") or "")
            if text and first is None:
                first = time.monotonic()
            print(text, end="", flush=True)
    print()
    ended = time.monotonic()
    return usage.get("completion_tokens", 0), (first or ended) - started, ended - (first or ended)


def backends(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/get_server_info")
    info = json.loads(connection.getresponse().read())
    return {row["phase"]: row["backend"] for row in info["internal_states"][0]["attention"]}


def main():
    server, port = start_server(sys.argv[1], sys.argv[2])
    try:
        wait_until_ready(server, port)
        print(f"\n> {QUESTION}\n")
        tokens, first_s, rest_s = stream_chat(port, QUESTION)
        used = backends(port)
        rate = (tokens - 1) / rest_s if tokens > 1 and rest_s > 0 else 0.0
        print(f"\n{tokens} tokens, first after {first_s * 1000:.0f} ms, then {rate:.0f} tokens/s")
        print(f"attention: prefill by {used.get('prefill', '?')}, decode by {used.get('decode', '?')}")
    finally:
        server.terminate()
        code = server.wait(timeout=60)
    print("Next: ./run serve")
    return code


if __name__ == "__main__":
    sys.exit(main())
