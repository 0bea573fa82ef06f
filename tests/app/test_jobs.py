"""The queue: order, limits, cancelling, and that nothing that goes wrong with one asset stops the next."""

import time

import pytest

from fsd_gs.app.jobs import ConflictError, NotFoundError, Queue, QueueFullError
from fsd_gs.config import load_config
from tests.app.makers import Stepwise, at_once


def config(tmp_path, prompt="a red chair", seed=0, steps=3):
    return load_config([], [f"prompt={prompt}", f"seed={seed}", f"steps={steps}", f"output={tmp_path}"])


def wait_for(queue, key, *states):
    end = time.monotonic() + 30
    while queue.get(key).state not in states:
        assert time.monotonic() < end, queue.get(key)
        time.sleep(0.005)
    return queue.get(key)


def test_two_wait_their_turn_and_one_is_cancelled(tmp_path):
    make = Stepwise()
    queue = Queue(make, waiting=5)
    first, second, third = (queue.submit(config(tmp_path, seed=seed), by) for seed, by in enumerate(("Ada", "Grace", "Mary")))
    wait_for(queue, first.id, "making")
    assert [queue.position(job.id) for job in (first, second, third)] == [None, 1, 2]
    assert queue.cancel(second.id).state == "cancelled"
    assert queue.position(third.id) == 1
    make.go.release(3)
    done = wait_for(queue, first.id, "finished")
    assert (done.step, done.by, done.error) == (3, "Ada", None)
    wait_for(queue, third.id, "making")
    queue.cancel(third.id, keep=True)
    make.go.release()
    assert wait_for(queue, third.id, "kept").step == 1
    assert (third.folder / "splats.ply").is_file()
    with pytest.raises(ConflictError, match=r"is finished; only what waits or is being made"):
        queue.cancel(first.id)
    queue.close()


def test_stopped_assets_may_be_asked_for_again_and_closing_stops(tmp_path):
    make = Stepwise()
    queue = Queue(make, waiting=5)
    job = queue.submit(config(tmp_path))
    wait_for(queue, job.id, "making")
    queue.cancel(job.id)
    make.go.release()
    assert wait_for(queue, job.id, "stopped").step == 1
    again = queue.submit(config(tmp_path))
    assert (again.id, again.state) == (job.id, "waiting")
    wait_for(queue, job.id, "making")
    make.go.release(2)  # the second step sees that the queue is closing
    queue.close()
    assert queue.get(job.id).state == "stopped"


def test_a_failure_is_one_line_and_the_next_is_made(tmp_path):
    def make(settings, observer):
        if "bug" in settings.prompt:
            raise ZeroDivisionError("a fault\nof ours")
        return at_once(settings, observer)

    queue = Queue(make, waiting=5)
    for prompt, line in (("a dragon", "prompt: 'a dragon' names nothing"), ("a bug", "ZeroDivisionError: a fault of ours")):
        failed = wait_for(queue, queue.submit(config(tmp_path, prompt)).id, "failed")
        assert failed.error.startswith(line)
        assert "\n" not in failed.error
    wait_for(queue, queue.submit(config(tmp_path)).id, "finished")
    queue.close()


def test_the_queue_has_an_end_and_one_asset_is_asked_for_once(tmp_path):
    make = Stepwise()
    queue = Queue(make, waiting=1)
    first = queue.submit(config(tmp_path))
    wait_for(queue, first.id, "making")
    assert queue.submit(config(tmp_path)).id == first.id
    with pytest.raises(ConflictError, match=r"other settings: steps \(3 → 4\); choose another seed"):
        queue.submit(config(tmp_path, steps=4))
    queue.submit(config(tmp_path, seed=1))
    assert queue.free_seed(config(tmp_path)) == 2
    with pytest.raises(QueueFullError, match="1 assets wait"):
        queue.submit(config(tmp_path, seed=2))
    with pytest.raises(NotFoundError):
        queue.get("nothing")
    make.go.release(3)
    queue.close()


def test_watchers_see_what_is_newer(tmp_path):
    queue = Queue(at_once, waiting=5)
    job = queue.submit(config(tmp_path))
    last = wait_for(queue, job.id, "finished").version
    assert [j.id for j in queue.jobs()] == [job.id]
    assert queue.jobs(last) == []
    other = queue.submit(config(tmp_path, seed=1))
    wait_for(queue, other.id, "finished")
    assert [j.id for j in queue.jobs(last)] == [other.id]
    queue.close()
