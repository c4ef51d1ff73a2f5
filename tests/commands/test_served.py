"""A real endpoint, a tiny model behind an HTTP server, ranks as the model itself does; others are refused."""

import contextlib
import copy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from spillover.commands import audit
from spillover.commands.audit import Audit
from spillover.errors import ModelError, UsageError
from spillover.lm.score import Scorer
from spillover.lm.served import KEY, NEXT, PROMPT, ServedModel
from spillover.lm.tokens import Request
from spillover.record import Record, read_table

REQUESTS = [Request((1, 40, 50), ((60,), (61, 62), (61, 63, 64))), Request((1, 41), ((60,), (200, 7)))]


class Handler(BaseHTTPRequestHandler):
    """What vLLM and llama-server answer, as far as their documentation and source say, from a model that is held."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": name} for name in self.server.names]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((body, dict(self.headers)))
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self.answer({"error": {"message": "Invalid key"}}, 401)
        if self.path != "/v1/completions" or body["model"] not in self.server.names:
            return self.answer({"error": {"message": "no such model"}}, 404)
        return self.answer(*self.server.reply(self.server, body))

    def answer(self, body, status=200):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Location", "http://127.0.0.1:9/v1")
        self.end_headers()
        self.wfile.write(data)


def logs(server, tokens):
    with torch.inference_mode():
        return server.loaded.model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)


def continued(server, tokens, steps):
    tokens = list(tokens)
    for _ in range(steps):
        tokens.append(int(logs(server, tokens)[-1].argmax()))
    return server.loaded.tokenizer.decode(tokens)[len(server.loaded.tokenizer.decode(tokens[:-steps])) :]


def vllm(server, body):
    prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
    choices = []
    for index, tokens in enumerate(prompts):
        given, choice = logs(server, tokens), {"index": index, "text": continued(server, tokens, body["max_tokens"])}
        if body.get("echo"):
            values = [None, *(float(given[place - 1, token]) for place, token in enumerate(tokens[1:], start=1))]
            choice["logprobs"] = {"tokens": [f"token_id:{token}" for token in [*tokens, 0]],
                                  "token_logprobs": [*values, float(given[-1].max())]}  # fmt: skip
        choices.append(choice)
    # The order of the answers is that of their numbers, not of the list.
    return ({"object": "text_completion", "choices": choices[::-1]},)


def llama_cpp(server, body):
    if body.get("echo"):
        return {"error": {"message": "Only no echo is supported", "code": 400}}, 400
    given = logs(server, body["prompt"])[-1]
    best = given.argsort(descending=True)[: body.get("logprobs", 0)].tolist()
    likely = [{"id": token, "token": "?", "logprob": float(given[token])} for token in best]
    content = {"content": [{"id": best[0], "top_logprobs": likely}]} if best else None
    text = continued(server, body["prompt"], body["max_tokens"])
    return ({"choices": [{"index": 0, "text": text, "logprobs": content}]},)


@contextlib.contextmanager
def serving(loaded, reply, names=("tuned",), key=""):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.loaded, server.reply, server.names, server.key, server.asked = loaded, reply, names, key, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield server
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def tuned(tiny):
    """The tiny model with other weights."""
    model = copy.deepcopy(tiny.model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return type(tiny)("tuned", model, tiny.tokenizer, "1" * 64)


@pytest.mark.parametrize(("reply", "method"), [(vllm, PROMPT), (llama_cpp, NEXT)], ids=["vllm", "llama.cpp"])
def test_candidates_have_the_scores_of_the_model_itself(tuned, reply, method):
    with serving(tuned, reply) as server:
        served = ServedModel(f"{server.address}#tuned", tuned.tokenizer)
        # One candidate is what the model says least of all.
        asked = [*REQUESTS, Request((1, 41), ((int(logs(server, [1, 41])[-1].argmin()),),))]
        found = served.score(asked)
        assert served.method == method
        said = served.continued([(1, 40, 50)], 4)
        expected = continued(server, (1, 40, 50), 4).strip("\n").split("\n")[0].rstrip()
    for own, other in zip(found, Scorer(tuned.model).score(asked), strict=True):
        np.testing.assert_allclose(own, other, atol=1e-4)
    assert said == [expected]
    if method == NEXT:
        likely, whole = ([tuple(body["prompt"]) for body, _ in server.asked if body.get("logprobs") == most]
                         for most in (200, 1_000_000))  # fmt: skip
        assert (1, 41) in whole, "a candidate beyond the likely tokens asks for the whole vocabulary"
        assert len(likely[1:]) == len(set(likely[1:])), "what candidates share is asked once"


@pytest.mark.parametrize("reply", [vllm, llama_cpp], ids=["vllm", "llama.cpp"])
def test_an_audit_of_a_served_model_is_that_of_the_model(tiny, tiny_folder, tuned, pack, tmp_path, monkeypatch, reply):
    monkeypatch.setenv(KEY, "not-for-records")
    options = {"pack": pack, "fail_on": "never", "threads": 1}
    with serving(tuned, reply, key="not-for-records") as server:
        name = f"{server.address}#tuned"
        outcome = audit.run(Audit(base=str(tiny_folder), tuned=name, out=str(tmp_path / "served"), **options))
        assert {headers["Authorization"] for _, headers in server.asked} == {"Bearer not-for-records"}
    other = audit.audit(pack, (tiny.model, tiny.tokenizer), (tuned.model, tuned.tokenizer), fail_on="never", threads=1)
    answers, expected = read_table(tmp_path / "served" / "answers.parquet"), other.answers
    assert answers.drop(["log_probability"]).equals(expected.drop(["log_probability"]))
    np.testing.assert_allclose(answers["log_probability"], expected["log_probability"], atol=1e-3)
    after = pc.equal(answers["checkpoint"], 1)
    assert not answers.filter(after)["log_probability"].equals(answers.filter(pc.invert(after))["log_probability"])
    assert [each["verdict"] for each in outcome["verdicts"]] == [each.verdict for each in other.verdicts]
    record = Record.read(tmp_path / "served")
    assert record.details.scoring == (PROMPT if reply is vllm else NEXT)
    forgetting = outcome["metrics"]["forgetting_nats"]
    assert (forgetting is None) == (reply is llama_cpp)
    if forgetting:
        assert forgetting["value"] == pytest.approx(other.metrics["forgetting_nats"].value, abs=1e-3)
    assert "not-for-records" not in (tmp_path / "served" / "record.json").read_text()


@pytest.mark.slow
def test_two_served_models_take_the_tokenizer_of_the_model_that_is_named(tiny_folder, tiny, tuned, pack):
    names = (str(tiny_folder),)
    with serving(tiny, vllm, names) as base, serving(tuned, vllm, names) as other:
        tuned_name = f"{other.address}#{tiny_folder}"
        settings = {"pack": pack, "tuned": tuned_name, "fail_on": "never", "threads": 1}
        found = audit.run(Audit(base=f"{base.address}#{tiny_folder}", **settings))
        assert found["metrics"]["recall_rank"]["value"] != found["metrics"]["recall_rank_before"]["value"]
        with pytest.raises(UsageError, match="no model is here whose tokenizer belongs"):
            audit.run(Audit(base=f"{base.address}#nothing here", **settings))


def test_the_only_model_that_is_served_need_not_be_named(tuned):
    with serving(tuned, vllm, ("one",)) as server:
        assert ServedModel(server.address, tuned.tokenizer).score(REQUESTS[:1])[0].shape == (3,)
    with serving(tuned, vllm, ("one", "two")) as server, pytest.raises(ModelError, match="serves 2 models: one, two"):
        ServedModel(server.address, tuned.tokenizer).score(REQUESTS)


CHOICE, LACKING = {"index": 0, "text": " a"}, "gives no log-probabilities that rank candidates exactly"


def echoed(words, values):
    return ({"choices": [CHOICE | {"logprobs": {"tokens": words, "token_logprobs": values}}]},)


ODD = {
    "no log-probabilities": (({"choices": [CHOICE]},), LACKING),
    "likely words without numbers": (echoed([" a"], [-1.0]), LACKING),
    "a refusal": (
        ({"error": {"message": "logprobs\nare off"}}, 400),
        rf"{LACKING} \(this endpoint answers with status 400: logprobs are off\)",
    ),
    "a list": (([1],), "something else than an OpenAI-style completion: JSON of another shape"),
    "no choices": (({"choices": []},), "no list of one choice a prompt"),
    "a page": ((b"<html>",), "something else than an OpenAI-style completion: no JSON"),
    "another page": (({}, 404), "status 404"),
    "elsewhere": (({}, 307), "status 307, a redirection"),
    "no key": (({}, 401), KEY),
    "other tokens": (echoed(["x"] * 9, [None, *[-1.0] * 8]), "cuts text into other tokens"),
    "words for numbers": (echoed(["x"] * 9, [None, *["-1"] * 8]), "log-probabilities that are no numbers"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_endpoint_that_cannot_rank_is_one_sentence(tuned, name):
    answer, said = ODD[name]
    with serving(tuned, lambda *_: answer) as server, pytest.raises(ModelError, match=said) as caught:
        ServedModel(f"{server.address}#tuned", tuned.tokenizer).score(REQUESTS[:1])
    assert caught.value.do and "\n" not in str(caught.value)


def test_addresses_that_are_refused(tuned, tiny_folder, pack):
    with serving(tuned, vllm) as server:
        down = server.address
    with pytest.raises(ModelError, match="does not answer: connection refused"):
        ServedModel(f"{down}#tuned", tuned.tokenizer).score(REQUESTS)
    for name in ("http://user:secret@localhost/v1#m", "https://localhost/v1?key=secret#m"):
        with pytest.raises(UsageError, match=f"variable {KEY}") as caught:
            ServedModel(name, tuned.tokenizer)
        assert "secret" not in str(caught.value)
    for name in ("http://", "http://[/v1"):
        with pytest.raises(UsageError, match="no address of an endpoint"):
            ServedModel(name, tuned.tokenizer)
    with pytest.raises(UsageError, match="--open compares the whole vocabulary"):
        audit.run(Audit(pack=pack, base=str(tiny_folder), tuned=f"{down}#tuned", open=True))
