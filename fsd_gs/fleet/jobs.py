"""Batches as jobs of a running Ray cluster, by its Job Submission API: the driver itself runs on the cluster."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from fsd_gs.errors import BackendError, InputError
from fsd_gs.fleet.cluster import check_reachable, import_ray

Say = Callable[[str], None]


def run_action(action: str, address: str | None, job: str | None, arguments: Sequence[str], working_dir: str | None, say: Say) -> int:
    """``fsd-gs fleet submit|status|cancel|logs --address …``.

    Args:
        action: one of them.
        address: of the dashboard.
        job: id of a job; status without one lists them all.
        arguments: submit: of ``fsd-gs batch``.
        working_dir: submit: a folder that travels to the cluster.
        say: one line for people.
    """
    if address is None:
        raise InputError(f"{action}: expected --address http://HEAD:8265, got nothing")
    if action == "submit" and not arguments:
        raise InputError(
            "submit: expected the options of fsd-gs batch after --, such as: submit --address … -- prompts.csv --output s3://…"
        )
    if action in ("cancel", "logs") and job is None:
        raise InputError(f"{action}: expected the id of a job; fsd-gs fleet status --address {address} lists them")
    if action not in ("submit", "status", "cancel", "logs"):
        raise InputError(f"{action}: has nothing to do with --address; leave it out")
    client = _client(address)
    try:
        if action == "submit":
            say(submit(client, arguments, working_dir))
        elif action == "logs":
            say(client.get_job_logs(job).rstrip())
        elif action == "cancel":
            say("stopping; the same batch goes on later" if client.stop_job(job) else f"{job} has ended already")
        elif job is None:
            for details in client.list_jobs():
                say(f"{details.submission_id}  {details.status}  {details.entrypoint}")
        else:
            lines = client.get_job_logs(job).strip().splitlines()
            say(f"{client.get_job_status(job)}" + (f": {lines[-1]}" if lines else ""))
    except RuntimeError as error:
        raise InputError(f"{action}: {' '.join(str(error).split())}") from error
    return 0


def submit(client: Any, arguments: Sequence[str], working_dir: str | None) -> str:
    """Start a batch on the cluster; the id of its job."""
    words = ["python", "-m", "fsd_gs", "batch", *arguments, *([] if "--ray" in arguments else ["--ray", "auto"])]
    return client.submit_job(entrypoint=shlex.join(words), runtime_env={"working_dir": working_dir} if working_dir else None)


def _client(address: str) -> Any:
    import_ray()
    check_reachable(address, "--address")
    try:
        from ray.job_submission import JobSubmissionClient  # pyright: ignore[reportMissingImports] — an extra

        return JobSubmissionClient(address)
    except (ImportError, ConnectionError, RuntimeError) as error:
        raise BackendError(f"--address: {address} is no dashboard of a Ray cluster ({' '.join(str(error).split())})") from error
