"""Both clients are one definition: what is sent, what is tried again, and how answers are read."""

import asyncio
import inspect

import httpx
import pytest

from service.calling.api import Api
from service.calling.calls import Call, Pause, exchange
from service.calling.endpoint import endpoint, listing
from service.client import AsyncClient, Client, Refused, Unreachable

HERE = "http://127.0.0.1:1"


def answers(call: Call, *given: httpx.Response | httpx.HTTPError, patience: float = 10.0):
    """What the exchange comes to, and how often it was sent."""
    steps, sent, left = exchange(call, HERE, patience), 0, list(given)
    step = next(steps)
    try:
        while True:
            if isinstance(step, Pause):
                step = next(steps)
                continue
            sent += 1
            answer = left.pop(0)
            step = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration as end:
        return end.value, sent


AWAY, GOOD = httpx.Response(503, json={"title": "away"}), httpx.Response(200, json={"id": "st_1"})


def test_what_may_be_repeated_is():
    asked = Call("GET", "/studies/st_1", repeat=True)
    assert answers(asked, AWAY, httpx.ConnectError("no"), GOOD) == ({"id": "st_1"}, 3)
    assert answers(Call("POST", "/x", then=lambda found: found["id"]), GOOD) == ("st_1", 1)


def test_what_may_not_is_sent_once():
    with pytest.raises(Refused, match="away") as caught:
        answers(Call("POST", "/studies/st_1/pause"), AWAY)
    assert caught.value.status == 503
    with pytest.raises(Unreachable, match="nothing listens"):
        answers(Call("POST", "/studies/st_1/pause"), httpx.ConnectError("no"))
    with pytest.raises(Unreachable, match="does not answer"):
        answers(Call("GET", "/studies", repeat=True), httpx.ReadTimeout("late"), patience=0)


def test_what_is_no_api():
    for answer in (httpx.Response(200, text="hello"), httpx.Response(404, text="hello"), httpx.Response(404, json=[])):
        with pytest.raises(Unreachable, match="is no mudman API"):
            answers(Call("GET", "/studies"), answer)
    for wrong in ("ftp://there", "127.0.0.1:8080", ""):
        for client in (Client, AsyncClient):
            with pytest.raises(Unreachable, match="is no address"):
                client(wrong)


def test_one_signature_for_both():
    names = [name for name, held in vars(Api).items() if isinstance(held, endpoint | listing)]
    assert len(names) > 30
    with Client(HERE, patience=0) as client:
        other = AsyncClient(HERE, patience=0)
        for name in names:
            assert inspect.signature(getattr(client, name)) == inspect.signature(getattr(other, name))
            assert getattr(client, name).__doc__ == vars(Api)[name].__doc__

        async def study() -> None:
            async with other:
                await other.study("st_1")

        with pytest.raises(Unreachable, match="nothing listens"):
            client.study("st_1")
        with pytest.raises(Unreachable, match="nothing listens"):
            asyncio.run(study())


def test_an_id_is_one_part_of_a_path():
    assert Api.study.function(Client(HERE), "a/../b?c").path == "/studies/a%2F..%2Fb%3Fc"
