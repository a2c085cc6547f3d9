"""One server for the suite, on the bundled model. BIFOCAL_BASE_URL points the tests at another one."""
import os
import pathlib
import sys

import openai
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from serving import Server  # noqa: E402


@pytest.fixture(scope="session")
def server():
    with Server("--enable-cache-report", "--reasoning-parser", "qwen3", "--max-queued-requests", "1024") as running:
        yield running


@pytest.fixture(scope="session")
def base_url(request):
    url = os.environ.get("BIFOCAL_BASE_URL")
    return url or f"http://127.0.0.1:{request.getfixturevalue('server').port}"


@pytest.fixture(scope="session")
def client(base_url):
    return openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def model(client):
    return client.models.list().data[0].id
