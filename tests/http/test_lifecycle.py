"""Starting, keys, draining: each test has a server of its own."""
import http.client
import json
import signal
import socket
import threading
import time

import pytest
from serving import Server


def test_keys_guard_every_route_but_the_probes():
    with Server("--api-key", "open-sesame") as server:
        assert server.get("/health")[0] == 200
        for path in ("/v1/models", "/metrics", "/get_server_info", "//v1/models", "/v1/../health", "/v1/models/", "/nothing"):
            assert server.get(path)[0] in (401, 404), path
            assert b"open-sesame" not in server.get(path)[1]
        for header in ("Authorization: Bearer open-sesame", "X-Api-Key: open-sesame"):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(f"GET /get_server_info HTTP/1.1\r\nHost: localhost\r\n{header}\r\nConnection: close\r\n\r\n".encode())
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
            assert answer.startswith(b"HTTP/1.1 200") and b"open-sesame" not in answer


LONG = {"text": "Once upon a time", "sampling_params": {"max_new_tokens": 7500, "ignore_eos": True, "temperature": 0}}


def open_stream(server, body=LONG):
    """A stream of which the first event has arrived."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request("POST", "/generate", json.dumps(body | {"stream": True}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200 and response.readline().startswith(b"data: ")
    return response


def test_sigterm_lets_running_requests_finish_and_turns_new_ones_away():
    with Server() as server:
        short = LONG | {"sampling_params": LONG["sampling_params"] | {"max_new_tokens": 800}}
        streams = [open_stream(server, short) for _ in range(4)]
        server.process.send_signal(signal.SIGTERM)
        while server.get("/ready")[0] == 200:
            time.sleep(0.01)
        assert json.loads(server.get("/health")[1]) == {"status": "draining"}
        status, body = server.request("POST", "/generate", LONG)
        assert status == 503 and json.loads(body)["error"]["code"] == "draining"
        for stream in streams:
            events = [line for line in stream.read().split(b"\n") if line]
            assert events[-1] == b"data: [DONE]"
            assert json.loads(events[-2][6:])["meta_info"]["completion_tokens"] == 800
        assert server.process.wait(60) == 0


def test_draining_ends_what_takes_too_long_with_a_last_event():
    with Server("--drain-timeout", "0.2") as server:
        stream = open_stream(server)
        server.process.send_signal(signal.SIGTERM)
        last = [line for line in stream.read().split(b"\n") if line][-1]
        assert json.loads(last[6:])["error"]["code"] == "shutting_down"
        assert server.process.wait(60) == 0


def test_a_second_sigterm_ends_at_once():
    with Server() as server:
        stream = open_stream(server)
        server.process.send_signal(signal.SIGTERM)
        while server.get("/ready")[0] == 200:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 130
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            stream.read()


def test_a_full_queue_answers_429():
    with Server("--max-running-requests", "1", "--max-queued-requests", "1") as server:
        running = open_stream(server)
        answers = []
        short = LONG | {"sampling_params": LONG["sampling_params"] | {"max_new_tokens": 1}}
        waiting = threading.Thread(target=lambda: answers.append(server.post("/generate", short)))
        waiting.start()
        while json.loads(server.get("/get_server_info")[1])["internal_states"][0]["num_queue_reqs"] < 1:
            time.sleep(0.01)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/generate", json.dumps(short), {"Content-Type": "application/json"})
        refused = connection.getresponse()
        assert refused.status == 429 and int(refused.headers["Retry-After"]) >= 1
        assert json.loads(refused.read())["error"]["code"] == "queue_full"
        running.close()  # and with it the connection: the one that waits is next
        waiting.join(60)
        assert answers[0]["meta_info"]["completion_tokens"] == 1
