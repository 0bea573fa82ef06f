"""The stages of training a prior. Each leaves its result in the folder, skips what is there, and goes on where it was stopped.

1 views        OUTPUT/views/shard-*.safetensors                    captioned objects seen by rigs of cameras
2 latents      OUTPUT/patch_code.safetensors, OUTPUT/latents/…     a linear code of their patches, and what it makes of them
3 decoder      OUTPUT/decoder.safetensors, OUTPUT/vae              pictures of latents
4 denoiser     OUTPUT/denoiser/state.*, log.jsonl, preview.png     the diffusion model itself
5 prior        OUTPUT/prior                                        everything as a diffusers folder
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fsd_gs.errors import FileFormatError
from fsd_gs.export.pictures import save_png
from fsd_gs.io import append_line, new_folder, write_text
from fsd_gs.pretrain.autoencoder import DecoderTrainer, psnr
from fsd_gs.pretrain.card import StageResult, count_parameters, make_card
from fsd_gs.pretrain.diffusion import LatentSet, make_scheduler
from fsd_gs.pretrain.folder import CARD, save_prior
from fsd_gs.pretrain.mixture import vocabulary_name
from fsd_gs.pretrain.patch_code import fit_patch_code, load_patch_code, save_patch_code
from fsd_gs.pretrain.preview import preview_cameras, preview_captions, preview_picture, sample
from fsd_gs.pretrain.rendering import render_views
from fsd_gs.pretrain.settings import PretrainConfig
from fsd_gs.pretrain.shards import encode_shards, load_pictures, load_shard, missing_shards, shard_count, shard_path
from fsd_gs.pretrain.sources import ObjectSource
from fsd_gs.pretrain.start import FinishedParts, compile_unet, keep_head, seeded, start_autoencoder, start_denoiser, start_tokenizer
from fsd_gs.pretrain.trainer import STATE, Trainer
from fsd_gs.pretrain.watching import Bar, Interrupts, Stopped
from fsd_gs.priors.nano.patch_code import PatchCode

HELD_OUT_OBJECTS = 32  # of data.pictures, at most: their views measure the decoder


@dataclass(frozen=True)
class Job:
    """One run of the command. folder: config.output."""

    config: PretrainConfig
    device: torch.device
    console: Console
    interrupts: Interrupts

    @property
    def folder(self) -> Path:
        return Path(self.config.output)

    def bar(self, title: str) -> Bar:
        return Bar(self.console, title)

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def make_views(job: Job, source: ObjectSource) -> None:
    """Stage 1."""
    data, folder = job.config.data, job.folder / "views"
    if not missing_shards(data, folder):
        return job.say(f"1/5 views: {data.objects} objects are there")

    with job.bar("1/5 views") as bar:

        def watch(done: int) -> None:
            bar.update(done / data.objects, f"{done}/{data.objects} objects")
            job.interrupts.check()

        render_views(source, data, folder, watch)


def make_latents(job: Job, finished: FinishedParts | None) -> PatchCode:
    """Stage 2; the code of a finished prior is kept."""
    data, path, folder = job.config.data, job.folder / "patch_code.safetensors", job.folder / "latents"
    with job.bar("2/5 latents") as bar:
        if not path.is_file():
            bar.update(0.0, "patch code")
            save_patch_code(finished.code if finished else _new_code(job), path)
        code, count = load_patch_code(path), shard_count(data)
        for number in encode_shards(code, job.folder / "views", folder):
            bar.update((number + 1) / count, f"{min((number + 1) * data.shard, data.objects)}/{data.objects} objects")
            job.interrupts.check()
    return code


def _new_code(job: Job) -> PatchCode:
    settings = job.config.autoencoder
    pictures = load_pictures(job.folder / "views", job.config.data.pictures)
    return fit_patch_code(pictures, settings.latent_channels, 2 ** (len(settings.channels) - 1))


def make_decoder(job: Job, code: PatchCode, finished: FinishedParts | None) -> tuple[Any, StageResult]:
    """Stage 3: the autoencoder, on the CPU, and how good it is."""
    config, state, facts_path = job.config, job.folder / "decoder.safetensors", job.folder / "decoder.json"
    vae = start_autoencoder(config, code, finished)
    pictures = load_pictures(job.folder / "views", config.data.pictures)
    held_out = min(HELD_OUT_OBJECTS, config.data.pictures // 4) * config.data.rigs * config.data.views
    trainer = DecoderTrainer(vae, code, pictures[held_out:], config.autoencoder, seed=config.data.seed, device=job.device)
    if state.is_file():
        trainer.load(state)
    if trainer.share < 1.0:
        _fit_decoder(job, trainer, state)
    trainer.finish()
    facts = json.loads(facts_path.read_text()) if facts_path.is_file() else {}
    if facts.get("steps") != trainer.steps:
        facts = {"steps": trainer.steps, "psnr": psnr(vae, pictures[: held_out or len(pictures)])}
        with new_folder(job.folder / "vae") as place:
            vae.save_pretrained(place)
        write_text(facts_path, json.dumps(facts))
    job.say(f"3/5 decoder: {facts['psnr']:.1f} dB on held-out objects after {trainer.steps} steps")
    return vae, StageResult(count_parameters(vae), trainer.steps, trainer.seconds / 60, facts["psnr"])


def _fit_decoder(job: Job, trainer: DecoderTrainer, state: Path) -> None:
    save_due = Every(job.config.diffusion.save_every_minutes)
    mean = float("nan")
    with job.bar("3/5 decoder") as bar:
        try:
            while trainer.share < 1.0:
                loss = trainer.step()
                mean = loss if mean != mean else 0.98 * mean + 0.02 * loss
                bar.update(trainer.share, f"step {trainer.steps}  loss {mean:.4f}")
                if save_due():
                    trainer.save(state)
                job.interrupts.check()
        except Stopped:
            trainer.save(state)
            raise
    trainer.save(state)


def make_denoiser(job: Job, source: ObjectSource, vae: Any, finished: FinishedParts | None) -> tuple[Trainer, StageResult]:
    """Stage 4."""
    config, folder = job.config, job.folder / "denoiser"
    with seeded(config.data.seed):
        tokenizer = start_tokenizer(source.words, job.folder / "tokenizer", finished)
    denoiser = start_denoiser(config, tokenizer, finished, job.device)
    trainer = Trainer(denoiser, alphas_cumprod().to(job.device), config.diffusion, seed=config.data.seed)
    if (folder / STATE).is_file():
        trainer.load(folder)
    if trainer.progress.share(config.diffusion) < 1.0:
        if config.diffusion.compile:
            compile_unet(denoiser)
        _fit_denoiser(job, trainer, vae)
    progress = trainer.progress
    job.say(f"4/5 denoiser: loss {progress.loss:.4f} after {progress.step} steps, {progress.seconds / 60:.1f} minutes")
    return trainer, StageResult(count_parameters(denoiser), progress.step, progress.seconds / 60, progress.loss)


def alphas_cumprod() -> torch.Tensor:
    """[1000] ᾱ of the schedule."""
    return make_scheduler().alphas_cumprod


def _fit_denoiser(job: Job, trainer: Trainer, vae: Any) -> None:
    settings, folder, log = job.config.diffusion, job.folder / "denoiser", job.folder / "denoiser" / "log.jsonl"
    data = LatentSet.load(job.folder / "latents").to(job.device)
    save_due, preview_due = Every(settings.save_every_minutes), Every(settings.preview_every_minutes)
    folder.mkdir(parents=True, exist_ok=True)
    cut_log(log, trainer.progress.step)
    with job.bar("4/5 denoiser") as bar:
        try:
            while trainer.progress.share(settings) < 1.0:
                loss = trainer.step(data)
                progress = trainer.progress
                bar.update(progress.share(settings), f"step {progress.step}  loss {progress.loss:.4f}")
                if progress.step % settings.log_every == 0:
                    _append(log, {"step": progress.step, "loss": loss, "mean": progress.loss, "minutes": progress.seconds / 60})
                if save_due():
                    trainer.save(folder)
                if preview_due():
                    save_preview(job, trainer, vae)
                job.interrupts.check()
        except Stopped:
            trainer.save(folder)
            raise
    trainer.save(folder)
    save_preview(job, trainer, vae)


def save_preview(job: Job, trainer: Trainer, vae: Any) -> None:
    """preview.png, and previews/STEP.png so that one can look back."""
    captions = preview_captions(load_shard(shard_path(job.folder / "latents", 0)).captions)
    latents = sample(trainer.averaged(), captions, preview_cameras(job.config.data), seed=job.config.data.seed)
    picture = preview_picture(latents, captions, lambda z: torch.cat([vae.decode(part).sample for part in z.split(64)]))
    newest, kept = job.folder / "preview.png", job.folder / "previews" / f"{trainer.progress.step:07d}.png"
    for path in (kept, newest):
        save_png(picture, path)


def make_prior(
    job: Job,
    source: ObjectSource,
    trainer: Trainer,
    vae: Any,
    autoencoder: StageResult,
    denoiser: StageResult,
    finished: FinishedParts | None = None,
) -> Path:
    """Stage 5; nothing to do if the folder already holds this very state. A finished prior that draws splats still does."""
    config, folder = job.config, job.folder / "prior"
    vocabulary = vocabulary_name(config.data)
    card = make_card(config, config.data.categories, autoencoder, denoiser, job.device)
    if _card_steps(folder) == (autoencoder.steps, denoiser.steps):
        job.say(f"5/5 prior: {folder} is there")
        return folder
    save_prior(
        folder,
        trainer.averaged(),
        vae,
        views=config.data.views,
        vocabulary=vocabulary,
        categories=config.data.categories,
        captions=source.captions if vocabulary else (),
        card=card,
        beside=lambda place: keep_head(finished, place),
    )
    job.say(f"5/5 prior: {folder}, {card['megabytes']:.1f} MB")
    return folder


def _card_steps(folder: Path) -> tuple[int, int] | None:
    try:
        card = json.loads((folder / CARD).read_text())
        return card["autoencoder"]["steps"], card["denoiser"]["steps"]
    except (OSError, ValueError, KeyError):
        return None


class Every:
    """True once each so many minutes of the clock; never for 0."""

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = 60 * minutes, clock
        self._last = clock()

    def __call__(self) -> bool:
        if self.seconds <= 0 or self.clock() - self._last < self.seconds:
            return False
        self._last = self.clock()
        return True


def _append(log: Path, entry: dict[str, Any]) -> None:
    append_line(log, json.dumps(entry))


def cut_log(log: Path, step: int) -> None:
    """Drop the lines after the state that the training goes on from."""
    if log.is_file():
        try:
            kept = [line for line in log.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
        except (ValueError, KeyError) as error:
            raise FileFormatError(f"{log} is damaged; delete it and run the command again") from error
        write_text(log, "".join(line + "\n" for line in kept))
