"""Starting, keys, draining: each test has a server of its own."""
import json
import signal
import socket
import threading
import time

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


def test_sigterm_lets_running_requests_finish():
    server = Server()
    answers = []
    body = {"text": "Once upon a time", "sampling_params": {"max_new_tokens": 1500, "ignore_eos": True, "temperature": 0}}
    threads = [threading.Thread(target=lambda: answers.append(server.post("/generate", body))) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while json.loads(server.get("/get_server_info")[1])["internal_states"][0].get("num_running_reqs", 4) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    assert server.process.wait(60) == 0
    assert [reply["meta_info"]["completion_tokens"] for reply in answers] == [1500] * 4


def test_a_full_queue_answers_429():
    with Server("--max-running-requests", "1", "--max-queued-requests", "1") as server:
        body = {"text": "Once upon a time", "sampling_params": {"max_new_tokens": 3000, "ignore_eos": True}}
        statuses = []
        threads = [threading.Thread(target=lambda: statuses.append(server.request("POST", "/generate", body)[0])) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert 429 in statuses and 200 in statuses and set(statuses) <= {200, 429}
