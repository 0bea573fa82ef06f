"""``fsd-gs train-prior``: from a catalogue, or a folder of meshes, to a diffusion prior; the same command again goes on."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from fsd_gs.core import commandline
from fsd_gs.core.device import resolve_device
from fsd_gs.pretrain.begin import begin, occupied
from fsd_gs.pretrain.settings import PretrainConfig, load_pretrain_config
from fsd_gs.pretrain.stages import Job, make_decoder, make_denoiser, make_latents, make_prior, make_views
from fsd_gs.pretrain.start import load_finished
from fsd_gs.pretrain.views import make_source
from fsd_gs.pretrain.watching import Interrupts, Stopped

DESCRIPTION = """Train a small multi-view text-to-image diffusion model, on the catalogue or on your own meshes:
{program} --config configs/nano/own.yaml data.meshes=my_assets output=outputs/my_prior
{program} --network splat output=outputs/splat_prior        the splat-native network

After Ctrl-C the same command goes on. The result: fsd-gs train prior.name=outputs/my_prior/prior prompt="..." """


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs train-prior`` for the UNet."""
    parser = commandline.make_parser(program, DESCRIPTION)
    commandline.add_settings(parser, PretrainConfig)
    parser.add_argument("--init", metavar="FOLDER", help="start from a finished prior instead of new weights; 'nano' is the shipped one")
    add_network(parser)
    return parser


def _network(arguments: Sequence[str]) -> str:
    """What ``--network`` says: each network has settings of its own."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_network(parser)
    return parser.parse_known_args(arguments)[0].network


def add_network(parser: argparse.ArgumentParser) -> None:
    """``--network``, which decides whose settings the other arguments are."""
    parser.add_argument(
        "--network",
        choices=("unet", "splat"),
        default="unet",
        help="a multi-view UNet on latents, or the splat-native denoiser (--help lists its own settings)",
    )


def main(arguments: Sequence[str], program: str = "fsd-gs train-prior") -> int:
    """Run the command; the exit code is 0 when the prior is finished, 130 or 143 after Ctrl-C or kill."""
    if _network(arguments) == "splat":
        from fsd_gs.pretrain.splat.command import main as train_splat_prior

        return train_splat_prior(arguments, program)
    options = commandline.parse(make_parser(program), arguments)
    overrides = [*options.overrides, *([f"init={options.init}"] if options.init else [])]
    config = load_pretrain_config(options.config, overrides)
    device = resolve_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    console = Console()
    with Interrupts() as interrupts:
        job = Job(config, device, console, interrupts)
        try:
            folder = run(job)
        except Stopped as stopped:
            job.say(f"stopped; everything is saved in {job.folder}. To go on: {shlex.join([*program.split(), *arguments])}")
            return 128 + stopped.number
    job.say(f'to use it: fsd-gs train prior.name={folder} prompt="..."')
    return 0


def run(job: Job) -> Path:
    """All stages; the folder of the prior."""
    finished = load_finished(job.config)
    source = make_source(job.config.data)
    with occupied(begin(job.config)):
        make_views(job, source)
        code = make_latents(job, finished)
        vae, autoencoder = make_decoder(job, code, finished)
        trainer, denoiser = make_denoiser(job, source, vae, finished)
        return make_prior(job, source, trainer, vae, autoencoder, denoiser, finished)
