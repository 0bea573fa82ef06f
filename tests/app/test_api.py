"""The API: what its description allows is answered as it says, what it does not is one line of 4xx, and nothing leaves the outputs."""

import json
import re
from typing import get_args

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from fsd_gs.app.api import NewAsset, make_api
from fsd_gs.app.guard import Guard
from fsd_gs.app.jobs import Queue
from fsd_gs.app.limits import Limits
from fsd_gs.app.workshop import known_jobs
from fsd_gs.core.quality import QUALITIES
from fsd_gs.viewer.access import Door
from tests.app.makers import at_once
from tests.app.test_jobs import wait_for

LIMITS = Limits(waiting=4, stream_seconds=0.1)
HERE = {"Host": "127.0.0.1"}


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def queue(outputs):
    return Queue(at_once, LIMITS.waiting, known_jobs(outputs))


@pytest.fixture
def api(queue, outputs):
    return make_api(queue, output=str(outputs), limits=LIMITS)


@pytest.fixture
def client(api):
    with TestClient(Guard(api, Door("127.0.0.1"), LIMITS.body_bytes), base_url="http://127.0.0.1:8088", follow_redirects=False) as client:
        yield client


def ask(client, **fields):
    return client.post("/assets", json={"prompt": "a red chair", **fields})


def test_an_asset_from_the_request_to_its_files(client, queue, outputs):
    answer = ask(client, settings=["steps=7"], by="Ada")
    assert answer.status_code == 202
    assert answer.headers["Location"] == "/assets/a-red-chair-seed-0000"
    wait_for(queue, "a-red-chair-seed-0000", "finished")
    asset = client.get(answer.headers["Location"]).json()
    assert (asset["prompt"], asset["seed"], asset["by"], asset["state"], asset["step"], asset["steps"]) == (
        "a red chair",
        0,
        "Ada",
        "finished",
        7,
        7,
    )
    assert {"splats.ply", "preview.png", "config.yaml", "view.html", "asset.spz", "thumbnail.jpg"} <= set(asset["files"])
    for name in asset["files"]:
        file = client.get(f"/assets/{asset['id']}/files/{name}")
        assert file.status_code == 200
        assert file.content
    assert client.get(f"/assets/{asset['id']}/files/splats.ply").content == (outputs / "a-red-chair/seed-0000/splats.ply").read_bytes()
    view = client.get(f"/assets/{asset['id']}/files/view.html")
    assert "sandbox allow-scripts" in view.headers["Content-Security-Policy"]
    assert "X-Frame-Options" not in view.headers
    assert ask(client).json()["seed"] == 1  # the next free one
    assert [a["id"] for a in client.get("/assets").json()][-1] == asset["id"]


def test_a_word_for_quality(client, queue, outputs):
    """It is a field of the API, beats what the app was started with, and gives way to settings beside it."""
    assert set(get_args(get_args(NewAsset.model_fields["quality"].annotation)[0])) == set(QUALITIES)
    asked = [
        ask(client, quality="draft"),
        ask(client, settings=["quality=draft"]),
        ask(client, quality="best", settings=["steps=7"]),
        ask(client),
    ]
    for answer in asked:
        wait_for(queue, answer.json()["id"], "finished")
    made = [queue.get(answer.json()["id"]).config for answer in asked]
    assert [(config.quality, config.steps, config.splats.count) for config in made] == [
        ("draft", 120, 2000),
        ("draft", 120, 2000),
        ("best", 7, 8000),
        ("good", 300, 4000),
    ]
    assert [answer.json()["quality"] for answer in asked] == ["draft", "draft", "best", "good"]
    api = make_api(queue, output=str(outputs), limits=LIMITS, overrides=("quality=draft",))
    with TestClient(api, base_url="http://127.0.0.1") as other:
        assert ask(other).json()["quality"] == "draft"
        assert ask(other, quality="best").json()["steps"] == 600
        assert "<option selected>draft</option>" in other.get("/").text


def test_events_tell_what_becomes_of_it(client, queue):
    key = ask(client).json()["id"]
    wait_for(queue, key, "finished")
    text = client.get(f"/assets/{key}/events").text
    states = [json.loads(line.removeprefix("data: "))["state"] for line in text.splitlines() if line.startswith("data: ")]
    assert states[-1] == "finished"
    assert key in client.get("/events").text
    assert key not in client.get("/events", params={"after": 10_000}).text


def test_what_was_made_before_is_there_after_a_restart(client, queue, outputs):
    key = ask(client).json()["id"]
    before = wait_for(queue, key, "finished")
    (again,) = known_jobs(outputs)
    assert (again.id, again.config.prompt, again.state) == (key, before.config.prompt, "finished")


@pytest.mark.parametrize(
    ("fields", "code", "line"),
    [
        ({"prompt": ""}, 422, r"prompt: string should have at least 1 character"),
        ({"prompt": "  "}, 422, r"prompt: expected words that say what to make"),
        ({"prompt": "a\x00chair"}, 422, r"prompt: expected printable characters"),
        ({"settings": ["stepz=3"]}, 422, r"unknown key 'stepz'; did you mean 'steps'\?"),
        ({"settings": ["steps=5000"]}, 422, r"steps: expected at most 2000 in this app, got 5000"),
        ({"settings": ["densify.cap=10000000"]}, 422, r"densify.cap: expected at most 100000"),
        ({"settings": ["splats.init=/etc/passwd"]}, 422, r"splats.init: '/etc/passwd' cannot be chosen from a page"),
        ({"settings": ["prior.name=somebody/model"]}, 422, r"prior.name: 'somebody/model' cannot be chosen from a page"),
        ({"settings": ["output=/tmp/elsewhere"]}, 422, r"settings: output cannot be typed here"),
        ({"settings": ["steps 5"]}, 422, r"settings: expected key=value without blanks"),
        ({"preset": "../../etc/passwd"}, 422, r"preset: unknown preset"),
        ({"preset": "2d"}, 422, r"preset: unknown preset"),
        ({"quality": "superb"}, 422, r"quality: input should be 'draft', 'good' or 'best'"),
        ({"quality": "best", "preset": "sd15"}, 422, r"steps: expected at most 2000 in this app, got 4000"),
        ({"settings": ["quality=superb"]}, 422, r"quality: expected one of draft, good, best|quality"),
        ({"seed": -1}, 422, r"seed: input should be greater than or equal to 0"),
        ({"seeds": 1}, 422, r"seeds: extra inputs are not permitted"),
    ],
)
def test_what_the_command_line_would_refuse_is_one_line(client, outputs, fields, code, line):
    answer = ask(client, **fields)
    assert answer.status_code == code
    assert re.match(line, answer.json()["detail"])
    assert "\n" not in answer.json()["detail"]
    assert not outputs.exists()


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "..%2F..%2Fsecret", "checkpoint", "/etc/passwd", "variants.json", ".lock", "nothing"]
)
def test_only_listed_files_are_served(client, queue, outputs, name):
    key = ask(client).json()["id"]
    wait_for(queue, key, "finished")
    (outputs / "secret").write_text("secret")
    answer = client.get(f"/assets/{key}/files/{name}")
    assert answer.status_code == 404
    assert answer.json()["detail"]
    assert client.get(f"/assets/{key}%2F..%2F..").status_code == 404


def test_two_answers_of_refusal(client, queue):
    assert client.get("/assets/nothing").status_code == 404
    key = ask(client).json()["id"]
    wait_for(queue, key, "finished")
    assert client.delete(f"/assets/{key}").status_code == 409
    assert ask(client, seed=0, settings=["steps=7"]).status_code == 409
    assert client.post("/assets", content=b"{", headers={"Content-Type": "application/json"}).status_code == 422
    assert client.put("/assets").json() == {"detail": "Method Not Allowed"}


def test_a_full_queue_says_so(outputs):
    class Never:
        def __call__(self, config, observer):
            raise AssertionError("is never reached")

    queue = Queue(Never(), 0)
    with TestClient(make_api(queue, output=str(outputs), limits=LIMITS), base_url="http://127.0.0.1") as client:
        answer = ask(client)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"]
    assert answer.json()["detail"].startswith("the queue is full")


def test_foreign_pages_and_large_requests_are_refused(client):
    assert client.get("/assets", headers={"Host": "elsewhere.example"}).status_code == 403
    assert client.get("/assets", headers={"Origin": "https://elsewhere.example"}).status_code == 403
    refused = client.post("/assets", json={"prompt": "a chair"}, headers={"Origin": "null"})
    assert (refused.status_code, refused.json()["detail"]) == (403, "refused: only the page's own scripts may talk to it")
    assert client.post("/assets", content=b"x" * (LIMITS.body_bytes + 1)).status_code == 413
    assert client.post("/assets", content=iter([b"x" * 60_000] * 2)).status_code == 413  # no length in its head
    page = client.get("/")
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]


def test_beyond_this_machine_it_takes_the_token(api):
    door = Door("0.0.0.0", token="secret-token")
    with TestClient(Guard(api, door, LIMITS.body_bytes), base_url="http://studio.lan:8088", follow_redirects=False) as client:
        assert client.get("/assets").status_code == 403
        assert client.get("/assets", headers={"Authorization": "Bearer wrong"}).status_code == 403
        assert client.get("/assets", headers={"Authorization": "Bearer secret-token"}).status_code == 200
        welcome = client.get("/?token=secret-token")
        assert (welcome.status_code, welcome.headers["Location"]) == (303, "/")
        assert "HttpOnly; SameSite=Lax" in welcome.headers["Set-Cookie"]
        assert client.get("/assets").status_code == 200  # the cookie


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_schemathesis_finds_nothing(api, queue):
    """Requests by the API's own description and against it: every answer is as described, and none is a fault of the server's."""
    guarded = Guard(api, Door("127.0.0.1"), LIMITS.body_bytes)
    schema = schemathesis.openapi.from_asgi("/openapi.json", guarded, headers=HERE)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {f"{o.method.upper()} {o.path}" for o in operations} >= {
        "POST /assets",
        "GET /assets/{asset_id}",
        "GET /assets/{asset_id}/files/{name}",
    }
    asked = {operation.label: 0 for operation in operations}
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
                continue  # any text is an id

            @settings(
                max_examples=5,
                deadline=None,
                derandomize=True,
                database=None,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def answers_as_described(case):
                # Which settings there are and what they take is said by GET /presets and the help, not by a JSON schema.
                beyond = [positive_data_acceptance] if case.method == "POST" else []
                case.call_and_validate(headers=HERE, excluded_checks=beyond)
                asked[case.operation.label] += 1

            answers_as_described()
    assert all(asked.values())
    assert queue.jobs()  # some of it was taken
    queue.close()
