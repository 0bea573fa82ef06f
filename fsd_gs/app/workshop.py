"""What the queue makes assets with: a prior that is kept from one asset to the next, and the gallery of each prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fsd_gs.app.jobs import Job, job_id
from fsd_gs.config import Config
from fsd_gs.train import runs
from fsd_gs.train.asset import Outcome, make_asset
from fsd_gs.train.backbones import PriorCache
from fsd_gs.train.loop import Observer
from fsd_gs.train.variants import record_asset
from fsd_gs.train.words import check_words
from fsd_gs.viewer.gallery import write_gallery
from fsd_gs.viewer.house import finished_runs


class Workshop:
    """Makes one asset at a time, with the prior of the one before where it is the same."""

    def __init__(self) -> None:
        self.priors = PriorCache()

    def make(self, config: Config, observer: Observer) -> Outcome:
        """An asset with all its files, or as far as the observer lets it come."""
        outcome = make_asset(config, self.priors.prior, observers=[observer])
        if outcome.state in ("finished", "kept"):
            record_asset(outcome.folder, config, write_gallery=write_gallery)
        return outcome

    def check_words(self, config: Config) -> None:
        """Refuse words that the prior does not know, where the prior is at hand; otherwise the job itself will say so."""
        kept = self.priors.at_hand(config)
        if kept is not None:
            check_words(kept, config.prompt, anyway=config.anyway)


def known_jobs(output: Path) -> list[Job]:
    """A job for every finished run in ``output``, the oldest first."""
    jobs = []
    for entry in reversed(finished_runs(output)):
        config = runs.load_run_config(entry.run)
        step = runs.finished_record(entry.run).get("step", config.steps)
        state = "kept" if step < config.steps else "finished"
        here = replace(config, output=str(output))  # the folder may have been moved since
        jobs.append(Job(job_id(entry.run), here, state=state, step=step, asked=entry.made, found=entry.run))
    return jobs
