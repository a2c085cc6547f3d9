"""A running server for black-box tests: starts the binary, finds its port, asks it things, stops it."""
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("BIFOCAL_BINARY", str(ROOT / "build" / "release" / "bifocal"))
MODEL = str(ROOT / "models" / "tiny-qwen3")


class Server:
    def __init__(self, *flags, model=MODEL):
        self.log = []
        self.port = None
        self._listening = threading.Event()
        self.process = subprocess.Popen([BINARY, "serve", model, "--port", "0", *flags], stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        if not self._listening.wait(60):
            raise RuntimeError("the server did not listen:\n" + "".join(self.log))
        deadline = time.monotonic() + 120
        while self.get("/ready")[0] != 200:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("the server did not get ready:\n" + "".join(self.log))
            time.sleep(0.02)

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)
            if match := re.search(r"listening on http://[^:]+:(\d+)", line):
                self.port = int(match.group(1))
                self._listening.set()
        self._listening.set()

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body):
        status, data = self.request("POST", path, body)
        if status != 200:
            raise RuntimeError(f"{path}: {status} {data.decode()}")
        return json.loads(data)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
