"""The manifests of configs/fleet: they are read, hold what they must, and ask for what ``fsd-gs batch`` understands."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from fsd_gs.core import commandline
from fsd_gs.fleet.command import RANKS, make_parser, rank_of

FOLDER = Path(__file__).parents[2] / "configs" / "fleet"


def read(name):
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def batch_options(words):
    """As the command reads them; one that it does not know ends the test."""
    return commandline.parse(make_parser("fsd-gs batch"), words[words.index("batch") + 1 :])


def test_the_cluster_is_one_that_rays_launcher_takes():
    util = pytest.importorskip("ray.autoscaler._private.util", reason="Ray is not installed (the extra fleet)")
    cluster = util.prepare_config(read("ray-cluster.yaml"))
    util.validate_config(cluster)  # against the schema that Ray ships
    gpu = cluster["available_node_types"]["gpu"]
    assert gpu["resources"]["GPU"] == 1, "or nothing tells the autoscaler that this kind of node has one"
    assert cluster["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert any("--dashboard-host=127.0.0.1" in line for line in cluster["head_start_ray_commands"]), "it runs whatever it is sent"


def test_the_job_of_kuberay_runs_a_batch_on_gpu_workers():
    job = read("kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    options = batch_options(shlex.split(job["spec"]["entrypoint"]))
    cluster = job["spec"]["rayClusterSpec"]
    workers = cluster["workerGroupSpecs"][0]
    container = workers["template"]["spec"]["containers"][0]
    assert float(container["resources"]["limits"]["nvidia.com/gpu"]) >= options.gpus_per_worker == 1
    assert options.workers == workers["maxReplicas"]
    assert options.ray == "auto"
    assert cluster["authOptions"] == {"mode": "token"}
    assert str(options.prompts).startswith(cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"])


def test_the_indexed_job_tells_every_pod_its_share(monkeypatch):
    job = read("indexed-job.yaml")["spec"]
    container = job["template"]["spec"]["containers"][0]
    options = batch_options(container["command"])
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "7")
    for entry in container["env"]:
        monkeypatch.setenv(entry["name"], entry["value"])
    assert rank_of(options) == (7, job["completions"])


def test_the_slurm_script_is_a_script_whose_array_is_understood(tmp_path, monkeypatch):
    """Run with a ``fsd-gs`` that only says what it was asked."""
    script = (FOLDER / "slurm.sh").read_text()
    assert "#SBATCH --array=0-7" in script
    (tmp_path / "fsd-gs").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "fsd-gs").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    said = subprocess.run(
        ["bash", str(FOLDER / "slurm.sh"), "my prompts.csv", "s3://b/x"], capture_output=True, text=True, check=True, env=environment
    ).stdout.splitlines()
    options = batch_options(said)
    assert (str(options.prompts), options.output, options.scratch) == ("my prompts.csv", "s3://b/x", str(tmp_path))
    for variable in RANKS[1]:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "8")
    assert rank_of(options) == (5, 8)
