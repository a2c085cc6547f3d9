"""SGLang's own API, metrics and the flows its clients use."""
import json
import re
import socket
import time


def generate(server, **body):
    return server.post("/generate", body)


def test_generate_text_and_ids_agree(server):
    greedy = {"temperature": 0, "max_new_tokens": 12}
    ids = server.post("/tokenize", {"prompt": "Once upon a time"})["tokens"]
    from_text = generate(server, text="Once upon a time", sampling_params=greedy)
    from_ids = generate(server, input_ids=ids, sampling_params=greedy)
    assert from_text["output_ids"] == from_ids["output_ids"]
    assert server.post("/detokenize", {"tokens": from_ids["output_ids"]})["text"] == from_text["text"]
    meta = from_text["meta_info"]
    assert meta["prompt_tokens"] == len(ids) and meta["completion_tokens"] == 12
    assert meta["finish_reason"] == {"type": "length", "length": 12}


def test_batches_keep_their_order(server):
    prompts = ["Once upon a time", "Question: What", "The river"]
    batch = generate(server, text=prompts, sampling_params={"temperature": 0, "max_new_tokens": 6})
    alone = [generate(server, text=p, sampling_params={"temperature": 0, "max_new_tokens": 6}) for p in prompts]
    assert [reply["text"] for reply in batch] == [reply["text"] for reply in alone]


def test_prompt_logprobs_equal_those_of_generation(server):
    greedy = {"temperature": 0, "max_new_tokens": 8}
    prompt = server.post("/tokenize", {"prompt": "Once upon a time"})["tokens"]
    first = generate(server, input_ids=prompt, sampling_params=greedy, return_logprob=True)
    longer = prompt + first["output_ids"]
    again = generate(server, input_ids=longer, sampling_params={"temperature": 0, "max_new_tokens": 1},
                     return_logprob=True, logprob_start_len=0, top_logprobs_num=2)
    given = again["meta_info"]["input_token_logprobs"]
    assert len(given) == len(longer) and given[0][0] is None
    assert [entry[1] for entry in given] == longer
    # Decode and prefill run on different backends, with weights and cache in bf16: equal to its rounding, not to the bit.
    for generated, read in zip(first["meta_info"]["output_token_logprobs"], given[len(prompt):]):
        assert generated[1] == read[1] and abs(generated[0] - read[0]) < 2e-2


def test_native_stream_is_cumulative(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        body = json.dumps({"text": "Once upon a time", "stream": True, "sampling_params": {"temperature": 0, "max_new_tokens": 10}})
        connection.sendall(f"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        raw = b""
        while chunk := connection.recv(65536):
            raw += chunk
    events = re.findall(rb"data: (\{.*?\})\n\n", raw)
    texts = [json.loads(event)["text"] for event in events]
    assert all(later.startswith(earlier) for earlier, later in zip(texts, texts[1:]))
    assert b"data: [DONE]" in raw
    assert texts[-1] == generate(server, text="Once upon a time", sampling_params={"temperature": 0, "max_new_tokens": 10})["text"]


def metric(server, name):
    text = server.get("/metrics")[1].decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.M))


def gauges(server):
    names = re.findall(r"^# TYPE (\S+)", server.get("/metrics")[1].decode(), re.M)
    return {name: metric(server, name) for name in names}


def test_info_and_metrics_show_the_backends(server):
    info = json.loads(server.get("/get_server_info")[1])
    phases = {row["phase"]: row["backend"] for row in info["internal_states"][0]["attention"]}
    assert phases["prefill"] == "tiled" and phases["decode"] == "streaming"
    assert json.loads(server.get("/get_model_info")[1])["is_generation"] is True
    assert any("attention" in name for name in gauges(server))


def test_a_client_that_goes_away_frees_its_pages(server):
    before = json.loads(server.get("/get_server_info")[1])
    body = json.dumps({"text": "Once upon a time", "stream": True, "sampling_params": {"max_new_tokens": 8000, "ignore_eos": True}})
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        assert connection.recv(100)
    deadline = time.monotonic() + 5
    while metric(server, "bifocal_num_running_reqs") > 0:
        assert time.monotonic() < deadline, "still running five seconds after the client left"
        time.sleep(0.02)
    assert metric(server, "bifocal_num_aborted_requests_total") >= 1, before


def test_abort_and_flush(server):
    assert server.request("POST", "/abort_request", {"rid": "unknown"})[0] == 200
    assert server.request("POST", "/flush_cache")[0] == 200
