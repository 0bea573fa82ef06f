"""Batches on Ray: a cluster of this machine with several raylets, as real processes. Skipped where Ray is not installed."""

import os
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

ROOT = Path(__file__).parents[2]
# A busy machine takes long to start a raylet; workers that nobody asked for are not started.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_agent_register_timeout_ms": "240000",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@pytest.fixture
def cluster(monkeypatch):
    """A head and a second node with one CPU each, and labels."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    try:
        cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, "labels": {"disk": "fast"}, **small})
        cluster.leaving = cluster.add_node(labels={"disk": "slow"}, **small)
        cluster.wait_for_nodes(timeout=240)
    except Exception as error:  # Ray gives a raylet 15 seconds to start its agents, which a machine with 15 programs a core does not manage
        pytest.skip(f"no local Ray cluster can be started here: {error}")
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_batch_on_a_cluster_survives_a_node_that_leaves(cluster, tmp_path):
    """Two actors on two nodes; one raylet is stopped over a unit. It is made on the other node, and errors are reported, not raised."""
    from fsd_gs.fleet.cluster import Actors, Resources

    todo, output, said = units(6), tmp_path / "out", []
    team = Actors(Setup(str(output), Rehearse(4.0, fail="#5")), 2, cluster.address, Resources(gpus=0))
    join = in_thread(Driver(FolderStore(output), todo, team, Rules(retries=1, poll_seconds=0.2), tell=said.append))
    wait_for(lambda: len(claimed_units(output)) >= 2, 240)
    time.sleep(0.3)
    cluster.remove_node(cluster.leaving, allow_graceful=False)
    tally = join(300)
    assert (tally.done, list(tally.failed)) == (5, [todo[5].key])
    assert tally.failed[todo[5].key][1].error == "unit #5: rehearsed to fail"
    assert_whole(output, todo[:5])
    again = [unit for unit in todo[:5] if len(attempts(output, unit.key)) == 2]
    assert len(again) == 1
    assert attempts(output, again[0].key) == {1: "died", 2: "claim"}
    assert any("the worker died" in line for line in said)


@pytest.mark.slow
def test_labels_choose_the_node(cluster, tmp_path):
    from fsd_gs.fleet.cluster import Actors, Resources

    todo, output = units(2), tmp_path / "out"
    team = Actors(Setup(str(output), Rehearse(0.0)), 1, cluster.address, Resources(gpus=0, cpus=0.5, labels={"disk": "slow"}))
    assert in_thread(Driver(FolderStore(output), todo, team))(300).done == 2
    assert len({marker.owner for marker in markers(output).values()}) == 1


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
