"""A model behind an OpenAI-style endpoint: log-probabilities of candidates that are given as tokens.

vLLM's `/v1/completions` gives back a prompt with the log-probability of each of its tokens (`echo` and `logprobs`), so
a text with its candidate is a prompt. That of llama.cpp gives none of a prompt's, and the likeliest next tokens with
their numbers, as many as are asked for, before any sampling setting: so a candidate is a walk through next tokens,
asked for the whole vocabulary where one of its tokens is not among the likely ones. Both are exact. An endpoint that
gives neither, such as one that names the likely tokens by their text alone, cannot rank candidates and is refused.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float

from spillover.errors import ModelError, SpilloverError, UsageError
from spillover.lm.evaluate import WINDOW
from spillover.lm.tokens import Encoder, Request, printable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: The variable with the key of an endpoint that wants one.
KEY = "SPILLOVER_API_KEY"
#: Texts a request; next tokens that are asked for at first, and then; seconds to wait for an answer.
BATCH, LIKELY, ALL, PATIENCE = 32, 200, 1_000_000, 600
#: How the two ways are called in records.
PROMPT, NEXT = "endpoint: prompt", "endpoint: next tokens"
LACKING = "this endpoint gives no log-probabilities that rank candidates exactly"
SERVE = "Serve the model with vLLM, or with llama.cpp's llama-server"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes to the address that the user named, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(eq=False)
class ServedModel:
    """Ranks candidates by asking an endpoint.

    Arguments:
    - name: its address up to /v1, and after # the model's name there, which may be left out where only one is served.
    - tokenizer: of that model; each text is given as its tokens.

    Raises: UsageError for an address that holds a key or a query, and ModelError, when it is asked, for an endpoint
    that is down, gives no log-probabilities, or answers something else.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    #: PROMPT or NEXT, once it is known.
    method: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.name)
            host, user = parts.hostname, parts.username or parts.password
        except ValueError:
            parts, host, user = urlsplit("http://"), None, None
        if user or parts.query:
            what = "an address with a name, a key or a query is written into records"
            raise UsageError(what, where=host or "", do=f"Put the key into the variable {KEY}, and leave it out here")
        if not host:
            do = "Write it as http://localhost:8000/v1#NAME"
            raise UsageError("this is no address of an endpoint", where=self.name, do=do)
        self._address = self.name.partition("#")[0].rstrip("/")
        handlers: list[Any] = [_NoRedirect]
        if host in ("localhost", "::1") or host.startswith("127."):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    #: How long a text may be is the endpoint's to say, when it is asked.
    longest: None = field(default=None, init=False)

    @cached_property
    def sha256(self) -> str:
        """Of the address and the model's name there: an endpoint does not show its weights."""
        return hashlib.sha256(f"{self._address}#{self._served}".encode()).hexdigest()

    @cached_property
    def _served(self) -> str:
        """The model's name at the endpoint."""
        if name := self.name.partition("#")[2]:
            return name
        found = self._answer("models")
        rows = found.get("data")
        names = [str(each.get("id")) for each in rows if isinstance(each, dict)] if isinstance(rows, list) else []
        if len(names) != 1:
            what = f"this endpoint serves {len(names)} models" + (f": {', '.join(names[:8])}" if names else "")
            raise ModelError(what, where=self.name, do="Name the one that is meant after #")
        return names[0]

    def score(self, requests: Sequence[Request]) -> list[Float[np.ndarray, "candidate"]]:
        """Natural log-probability of every candidate of every request, summed over its tokens."""
        texts = {(each.prompt + own, len(each.prompt)): 0.0 for each in requests for own in each.candidates}
        if texts and self.method is None:
            self._settle(next(iter(texts))[0])
        if self.method == PROMPT:
            waiting = iter(texts)
            while batch := list(islice(waiting, BATCH)):
                for (tokens, start), found in zip(batch, self._echoed([each for each, _ in batch]), strict=True):
                    texts[tokens, start] = float(sum(found[start:]))
        else:
            self._walk(texts)
        return [np.array([texts[each.prompt + own, len(each.prompt)] for own in each.candidates]) for each in requests]

    def losses(self, encode: Encoder, passages: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
        """As `lm.evaluate.passage_losses`; None where the endpoint would be asked for each token of the text."""
        if self.method != PROMPT:
            return None
        encoded = [tuple(tokens) for text in passages if len(tokens := encode(text)[:WINDOW]) > 1]
        scores = self.score([Request(tokens[:1], (tokens[1:],)) for tokens in encoded])
        return -np.concatenate(scores), np.array([len(tokens) - 1.0 for tokens in encoded])

    def continued(self, prompts: Sequence[Sequence[int]], steps: int) -> list[str]:
        """What the model says after each prompt, always its likeliest token, up to the end of the line."""
        said = []
        for prompt in prompts:
            body = {"prompt": list(prompt), "max_tokens": steps, "temperature": 0}
            (choice,) = self._choices(body, 1)
            said.append(printable(str(choice.get("text") or "").strip("\n").split("\n")[0].rstrip()))
        return said

    def _settle(self, tokens: tuple[int, ...]) -> None:
        """Find out how this endpoint can be asked, with a text that will be asked anyway."""
        refused = ""
        try:
            if self._echoed([tokens]):
                self.method = PROMPT
                return
        except _Refused as error:
            refused = error.what
        try:
            if self._next(tokens[:1], LIKELY):
                self.method = NEXT
                return
        except _Refused as error:
            refused = refused or error.what
        raise ModelError(LACKING + (f" ({refused})" if refused else ""), where=self.name, do=SERVE)

    def _echoed(self, texts: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """The log-probability of every token of each text, that of the first as 0; empty where it gives none."""
        body = {"prompt": list(map(list, texts)), "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1,
                "return_tokens_as_token_ids": True}  # fmt: skip
        found = []
        for text, choice in zip(texts, self._choices(body, len(texts)), strict=True):
            logprobs = choice.get("logprobs")
            given: dict[str, Any] = logprobs if isinstance(logprobs, dict) else {}
            values = given.get("token_logprobs")
            if not isinstance(values, list) or len(values) < len(text):
                if self.method is None:
                    return []
                raise self._odd("fewer log-probabilities than the prompt has tokens")
            values = [0.0, *values[1 : len(text)]]
            if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in values):
                raise self._odd("log-probabilities that are no numbers")
            self._refuse_other_tokens(text, given.get("tokens"))
            found.append(values)
        return found

    def _refuse_other_tokens(self, text: Sequence[int], said: object) -> None:
        """Raise ModelError when the endpoint has other words for these tokens."""
        if not isinstance(said, list) or len(said) < len(text):
            return
        pairs = list(zip(map(str, said), text, strict=False))
        if all(word.startswith("token_id:") for word, _ in pairs):
            same = all(word == f"token_id:{token}" for word, token in pairs)
        else:
            # A token that is part of a letter has no text of its own.
            whole = [(word, token) for word, token in pairs if "\ufffd" not in word]
            known = [word in (self.tokenizer.decode([token]), self.tokenizer.convert_ids_to_tokens(token))
                     for word, token in whole]  # fmt: skip
            same = 2 * sum(known) >= len(known)
        if not same:
            what = "this endpoint cuts text into other tokens than the model that it is compared with"
            raise ModelError(what, where=self.name, do="Name the model that it was tuned from")

    def _walk(self, texts: dict[tuple[tuple[int, ...], int], float]) -> None:
        """Add up the log-probabilities of each text's tokens, asking once after every beginning that texts share."""
        wanted: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        for tokens, start in texts:
            for place in range(start, len(tokens)):
                wanted[tokens[:place]].add(tokens[place])
        known: dict[tuple[int, ...], dict[int, float]] = {}
        for before, after in wanted.items():
            found = self._next(before, LIKELY)
            if not after <= found.keys():
                found = self._next(before, ALL)
            if missing := after - found.keys():
                what = f"{LACKING}: it names {len(found):,} next tokens, and token {min(missing)} is none of them"
                raise ModelError(what, where=self.name, do=SERVE)
            known[before] = {token: found[token] for token in after}
        for tokens, start in texts:
            places = range(start, len(tokens))
            texts[tokens, start] = sum(known[tokens[:place]][tokens[place]] for place in places)

    def _next(self, before: Sequence[int], most: int) -> dict[int, float]:
        """The log-probabilities of the likeliest next tokens by their numbers; empty where it gives no numbers."""
        body = {"prompt": list(before), "max_tokens": 1, "temperature": 0, "logprobs": most}
        (choice,) = self._choices(body, 1)
        given = choice.get("logprobs")
        places = given.get("content") if isinstance(given, dict) else None
        first = places[0] if isinstance(places, list) and places else None
        likely = first.get("top_logprobs") if isinstance(first, dict) else None
        if not isinstance(likely, list):
            return {}
        try:
            return {int(each["id"]): float(each["logprob"]) for each in likely}
        except (KeyError, TypeError, ValueError):
            return {}

    def _choices(self, body: dict[str, Any], count: int) -> list[dict[str, Any]]:
        """The choices of an answer, in the order of the prompts."""
        choices = self._answer("completions", {"model": self._served, **body}).get("choices")
        whole = isinstance(choices, list) and len(choices) == count and all(isinstance(each, dict) for each in choices)
        if not whole:
            raise self._odd("no list of one choice a prompt")
        assert isinstance(choices, list)
        by_number = {each.get("index"): each for each in choices}
        if count == 1:
            return choices
        if set(by_number) != set(range(count)):
            raise self._odd("choices that are not numbered")
        return [by_number[number] for number in range(count)]

    def _answer(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the endpoint answers, as JSON. Raises _Refused for a request that it does not take."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}/{path}", data, headers)
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            do = "Start the server, or check the address"
            raise ModelError(f"this endpoint does not answer: {said.lower()}", where=self.name, do=do) from None
        except ValueError:
            raise self._odd("no JSON") from None
        if not isinstance(found, dict):
            raise self._odd("JSON of another shape")
        return found

    def _refused(self, error: urllib.error.HTTPError) -> SpilloverError:
        """A status that is no success, as a sentence."""
        said = _message(error.read(4096))
        status = f"this endpoint answers with status {error.code}" + (f": {said}" if said else "")
        if error.code in (401, 403):
            return ModelError(status, where=self.name, do=f"Put its key into the variable {KEY}")
        if error.code in (301, 302, 303, 307, 308):
            return ModelError(f"{status}, a redirection", where=self.name, do="Give the address that it leads to")
        if error.code == 404:
            do = "Give the address up to /v1, and after # a name that its /v1/models lists"
            return ModelError(status, where=self.name, do=do)
        return _Refused(status, where=self.name, do=SERVE)

    def _odd(self, what: str) -> ModelError:
        said = f"this endpoint answers something else than an OpenAI-style completion: {what}"
        return ModelError(said, where=self.name, do="Give the address up to /v1")


class _Refused(ModelError):
    """A request that the endpoint does not take, where it may take another form of it."""


def _message(data: bytes) -> str:
    """What an endpoint says is wrong, on one line."""
    try:
        found = json.loads(data)
        error = found.get("error", found) if isinstance(found, dict) else found
        said = error.get("message", "") if isinstance(error, dict) else error
    except ValueError:
        said = ""
    text = " ".join(str(said or "").split())[:200]
    return "".join(each for each in text if each.isprintable())
