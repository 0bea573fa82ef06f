"""Batches on Ray: a cluster of this machine with two raylets, as real processes. Skipped where Ray is missing or no raylet starts."""

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fleet.stores import assert_whole, attempts, markers, units
from fleet.test_faults import claimed_units, in_thread, wait_for

from fsd_gs.errors import BackendError, InputError
from fsd_gs.fleet import jobs
from fsd_gs.fleet.cluster import check_reachable, connect
from fsd_gs.fleet.driver import Driver, Rules
from fsd_gs.fleet.store import FolderStore
from fsd_gs.fleet.task import Rehearse
from fsd_gs.fleet.worker import Setup

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
# A busy machine takes long to start a raylet; workers that nobody asked for are not started.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_agent_register_timeout_ms": "240000",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
}


@pytest.fixture(scope="module")
def cluster():
    """A head with a dashboard and a second node, told apart by a label, one CPU each, and on paper a GPU; whoever comes needs the token."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "RAY_AUTH_TOKEN": secrets.token_hex(16)}.items():
            patch.setenv(name, value)  # before Ray is imported: it reads them once
        Cluster = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed (the extra fleet)").Cluster

        small = {"num_cpus": 1, "object_store_memory": 80_000_000}
        try:
            head = {"include_dashboard": True, "dashboard_port": 0, "labels": {"disk": "fast"}, **small}
            cluster = Cluster(initialize_head=True, head_node_args=head)
            cluster.leaving = cluster.add_node(labels={"disk": "slow"}, num_gpus=1, **small)  # a GPU that is only counted
            cluster.wait_for_nodes(timeout=240)
        except Exception as error:  # a container without shared memory, a machine that takes minutes to start a process
            pytest.skip(f"no local Ray cluster can be started here: {error}")
        yield cluster
        cluster.shutdown()


def test_actors_take_their_share_of_nodes_with_a_label(cluster, tmp_path):
    """Three actors share a CPU and a GPU of the node that is asked for; a unit that fails is reported with its error."""
    from fsd_gs.fleet.cluster import Actors, Resources

    todo, output = units(6), tmp_path / "out"
    setup = Setup(str(output), Rehearse(1.0, fail="#5"))
    team = Actors(setup, 3, cluster.address, Resources(cpus=0.33, gpus=0.33, labels={"disk": "slow"}))
    nodes = {node["NodeID"]: node["Labels"]["disk"] for node in team._ray.nodes() if node["Alive"]}
    driver = Driver(FolderStore(output), todo, team, Rules(retries=1))
    join = in_thread(driver)
    wait_for(lambda: len(team.present()) == 3, 120)
    homes = [actor["Address"]["NodeID"] for actor in team._ray._private.state.actors().values() if actor["State"] == "ALIVE"]
    assert [nodes[home] for home in homes] == ["slow"] * 3
    wait_for(lambda: team._ray.available_resources().get("GPU", 0.0) < 0.02, 20)
    tally = join(120)
    assert (tally.done, list(tally.failed)) == (5, [todo[5].key])
    assert tally.failed[todo[5].key][1].error == "unit #5: rehearsed to fail"
    assert len({failure.worker for failure in driver.claims.standing(todo[5].key).failures}) == 2, "by another actor"
    assert_whole(output, todo[:5])


def fleet(cluster, *words):
    """What ``fsd-gs fleet`` says to the dashboard of the cluster."""
    command = [sys.executable, "-m", "fsd_gs", "fleet", words[0], "--address", f"http://{cluster.webui_url}", *words[1:]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.slow
def test_a_batch_is_submitted_watched_cancelled_and_goes_on(cluster, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "prompts.txt").write_text("a chair\na lamp\n")
    (tmp_path / "here" / "longer.txt").write_text("a bed\n")
    out = str(tmp_path / "out")

    def submit(file, seconds):
        batch = [file, "--output", out, "--rehearse", seconds, "--workers", "2", "--stale-minutes", "0.05"]
        return fleet(cluster, "submit", "--working-dir", str(tmp_path / "here"), "--", *batch)

    first = submit("prompts.txt", "0.1")
    wait_for(lambda: fleet(cluster, "status", first).startswith("SUCCEEDED: "), 180)
    assert "2 of 2 done, 2 of them now" in fleet(cluster, "logs", first)
    assert len(markers(tmp_path / "out")) == 2
    long = submit("longer.txt", "600")
    wait_for(lambda: len(claimed_units(tmp_path / "out")) == 3, 120)
    assert fleet(cluster, "cancel", long) == "stopping; the same batch goes on later"
    wait_for(lambda: fleet(cluster, "status", long).startswith("STOPPED"), 120)
    assert {first, long} <= {line.split()[0] for line in fleet(cluster, "status").splitlines()}
    assert len(markers(tmp_path / "out")) == 2, "what was stopped is not done"
    again = submit("longer.txt", "0.1")
    wait_for(lambda: fleet(cluster, "status", again).startswith("SUCCEEDED: "), 180)
    assert len(markers(tmp_path / "out")) == 3


def test_a_batch_survives_a_node_that_leaves(cluster, tmp_path):
    """Two actors on two nodes; one raylet is stopped over a unit. It is made on the other node, which also tries again what failed."""
    from fsd_gs.fleet.cluster import Actors, Resources

    todo, output, said = units(4), tmp_path / "out", []
    team = Actors(Setup(str(output), Rehearse(2.0, fail="#3")), 2, cluster.address, Resources(gpus=0))
    join = in_thread(Driver(FolderStore(output), todo, team, Rules(retries=1, poll_seconds=0.2, absent_seconds=1.0), tell=said.append))
    wait_for(lambda: len(claimed_units(output)) >= 2, 240)
    time.sleep(0.3)
    cluster.remove_node(cluster.leaving, allow_graceful=False)
    tally = join(300)
    assert (tally.done, list(tally.failed)) == (3, [todo[3].key])
    assert_whole(output, todo[:3])
    again = [unit for unit in todo[:3] if len(attempts(output, unit.key)) == 2]
    assert len(again) == 1
    assert attempts(output, again[0].key) == {1: "died", 2: "claim"}
    assert any("the worker died" in line for line in said)


def test_without_a_cluster_it_is_one_line():
    with pytest.raises(BackendError, match=r"--ray: no cluster answers at 127\.0\.0\.1:1 .*nothing is lost"):
        check_reachable("127.0.0.1:1", "--ray")
    with pytest.raises(BackendError, match=r"expected HOST:PORT, ray://HOST:PORT or auto, got 'nowhere'"):
        check_reachable("nowhere", "--ray")


def test_without_ray_it_is_one_line_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendError, match=r"Ray is not installed; pip install 'fsd-gs\[fleet\]'"):
        connect("auto")


def test_the_command_says_it_in_one_line(tmp_path):
    (tmp_path / "p.txt").write_text("a chair\n")
    command = [sys.executable, "-m", "fsd_gs", "batch", str(tmp_path / "p.txt"), "--rehearse", "0", "--output", str(tmp_path / "out")]
    ended = subprocess.run(
        [*command, "--ray", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env=dict(os.environ),
    )
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "nothing is lost" in ended.stderr or "not installed" in ended.stderr


class Client:
    """Stands in for Ray's JobSubmissionClient: what it is asked is what is tested."""

    def __init__(self):
        self.calls = []

    def submit_job(self, **named):
        self.calls.append(named)
        return "raysubmit_1"


def test_a_batch_becomes_a_job():
    client = Client()
    assert jobs.submit(client, ["my prompts.csv", "--output", "s3://b/x"], "here") == "raysubmit_1"
    assert client.calls[0] == {
        "entrypoint": "python -m fsd_gs batch 'my prompts.csv' --output s3://b/x --ray auto",
        "runtime_env": {"working_dir": "here"},
    }


def test_actions_on_jobs_say_what_they_need():
    for action, address, job, message in (
        ("submit", None, None, "expected --address"),
        ("submit", "http://127.0.0.1:1", None, "options of fsd-gs batch after --"),
        ("logs", "http://127.0.0.1:1", None, "expected the id of a job"),
        ("scan", "http://127.0.0.1:1", None, "has nothing to do with --address"),
    ):
        with pytest.raises(InputError, match=message):
            jobs.run_action(action, address, job, [], None, print)
