"""Both clients against the API as a real server; nobody works on the studies, whose rows come from real trials."""

import asyncio
from pathlib import Path

import pytest
from test_api_stream import Door, append
from test_bundles import SIMULATED, run
from test_cli_comparisons import address  # noqa: F401 - fixture

from service.client import AsyncClient, Client, Refused, StillRunning
from service.evidence.verification import verify
from service.store import studies
from service.store.states import Action


def played(scene) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))


def test_the_asynchronous_one_does_what_the_other_does(address, database, tmp_path: Path):  # noqa: F811
    async def scene() -> None:
        async with AsyncClient(address) as client:
            made = await client.submit(SIMULATED | {"name": "asked twice"})
            run(database, made["id"], 6)
            with Client(address) as other:
                assert await client.study(made["id"]) == other.study(made["id"])
                assert await client.statistics(made["id"], seed=3) == other.statistics(made["id"], seed=3)
                assert [one async for one in client.trials(made["id"], limit=2)] == list(other.trials(made["id"]))
                assert [one["id"] async for one in client.studies(text="asked")] == [made["id"]]
                frames = await client.trials_frame(made["id"]), other.trials_frame(made["id"])
            assert frames[0].equals(frames[1])
            values = {one["ordinal"]: one["value"] for one in (await client.export(made["id"]))["trials"]}
            assert {ordinal: value for (ordinal, _), value in frames[0]["value"].dropna().items()} == {
                ordinal: value for ordinal, value in values.items() if value is not None
            }
            curves = await client.curves_frame(made["id"], 0)
            assert set(curves.index.get_level_values("phase")) == {"unlearning", "relearning"}
            await client.bundle(made["id"], tmp_path / "b.zip")
            assert verify(tmp_path / "b.zip").faults == []
            assert [file.name for file in tmp_path.iterdir()] == ["b.zip"]
            with pytest.raises(Refused, match="no study"):
                await client.bundle("st_nothing", tmp_path / "none.zip")
            assert not (tmp_path / "none.zip").exists()
            done = await asyncio.gather(*(client.best(made["id"]) for _ in range(5)))
            assert len({one["ordinal"] for one in done}) == 1

    played(scene)


def test_waiting_ends_with_the_study(address, database):  # noqa: F811
    async def scene() -> None:
        async with AsyncClient(address) as client:
            made = await client.submit(SIMULATED | {"name": "waited for"})
            with pytest.raises(StillRunning, match="is queued after"):
                await client.wait(made["id"], timeout=0.2, every=0.1)
            waiting = asyncio.create_task(client.wait(made["id"], every=0.05))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            with database.begin() as session:
                studies.change_state(session, made["id"], Action.CANCEL)
            assert (await waiting)["state"] == "cancelled"
            with Client(address) as other:
                assert other.wait(made["id"])["state"] == "cancelled"

    played(scene)


def test_the_asynchronous_one_goes_on_where_the_connection_was_lost(address, database):  # noqa: F811
    async def scene() -> None:
        with Door(address) as door:
            async with AsyncClient(door.url, patience=10) as client:
                study = (await client.submit(SIMULATED | {"name": "followed"}))["id"]
                messages, seen = client.stream(study), []
                while not [data for name, data in seen if name == "standing"]:
                    seen.append(await anext(messages))
                assert [data["sequence"] for name, data in seen if name == "event"] == [1]
                door.shut()
                append(database, study, "claimed", {})
                seen = [await anext(messages)]
                while seen[-1][0] != "event":
                    seen.append(await anext(messages))
                assert ("lost", None) in seen
                assert (seen[-1][1]["sequence"], seen[-1][1]["kind"]) == (2, "claimed")
                await messages.aclose()

    played(scene)
