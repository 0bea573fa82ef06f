"""The doctor: every check on this machine, and each judgement on machines that are not at hand."""

import pytest

from fsd_gs import doctor
from fsd_gs.doctor import Check
from fsd_gs.errors import BackendError


@pytest.fixture
def no_network(monkeypatch):
    import socket

    def refuse(*args, **settings):
        raise AssertionError("the doctor contacted the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def empty_cache(monkeypatch):
    from fsd_gs.priors import hub

    monkeypatch.setattr(hub, "cached_folder", lambda source: None)


def test_all_checks_run_here_without_a_network(no_network):
    checks = doctor.run_checks()
    by_name = {check.name: check for check in checks}
    assert by_name["Python"].ok
    assert by_name["Packages"].ok
    assert by_name["CPU rasterizer"].ok, by_name["CPU rasterizer"].detail
    assert {"GPU", "nvcc", "CUDA rasterizer", "Disk for results", "Disk for weights", "Video", "Backbone sd15", "Preset"} <= set(by_name)
    assert all(check.advice for check in checks if check.ok is False)


def test_one_splat_is_drawn_as_the_formula_says_and_a_wrong_rasterizer_is_noticed(monkeypatch):
    assert doctor.one_splat_error("cpu", "cpu") < 1e-3
    import fsd_gs.render

    real = fsd_gs.render.make_rasterizer
    monkeypatch.setattr(
        fsd_gs.render,
        "make_rasterizer",
        lambda backend, device: lambda splats, cameras: real(backend, device)(splats.select(splats.means[:, 0] > 1), cameras),
    )
    check = doctor.check_cpu_kernels()
    assert check.ok is False
    assert check.advice


def test_a_rasterizer_that_cannot_be_compiled(monkeypatch):
    def broken(backend, device):
        raise BackendError("numba: cannot write its cache")

    monkeypatch.setattr(doctor, "one_splat_error", broken)
    check = doctor.check_cpu_kernels()
    assert (check.ok, check.detail) == (False, "numba: cannot write its cache")
    assert "NUMBA_CACHE_DIR" in check.advice


def test_a_check_that_breaks_is_reported_and_the_rest_goes_on(monkeypatch):
    def check_broken() -> Check:
        raise ValueError("odd machine")

    monkeypatch.setattr(doctor, "CHECKS", (check_broken, doctor.check_python))
    first, second = doctor.run_checks()
    assert first.ok is False
    assert "ValueError: odd machine" in first.detail
    assert second.name == "Python"


@pytest.mark.parametrize(
    ("torch_cuda", "nvcc", "gpu", "ok"),
    [("12.8", "12.4", True, True), ("13.0", "12.8", True, False), ("12.8", None, True, None), (None, None, False, None)],
)
def test_nvcc_must_have_torchs_major_version(torch_cuda, nvcc, gpu, ok):
    check = doctor.judge_nvcc(torch_cuda, nvcc, gpu)
    assert check.ok is ok
    if ok is False:
        assert "install the CUDA 13.0 toolkit" in check.advice


def test_nvcc_output_is_read():
    text = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.8, V12.8.93\n"
    assert doctor.parse_nvcc(text) == "12.8"
    assert doctor.parse_nvcc("command not found") is None


def test_gpu_advice(monkeypatch):
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.check_gpu().ok is None
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(doctor.torch.version, "cuda", None)
    assert "CPU build" in doctor.check_gpu().detail
    assert "pytorch.org" in doctor.check_gpu().advice
    monkeypatch.setattr(doctor.torch.version, "cuda", "12.8")
    assert "update the NVIDIA driver" in doctor.check_gpu().advice


def test_full_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 2e8})())
    check = doctor.judge_disk("Disk for weights", tmp_path / "not" / "there", 3.0)
    assert check.ok is False
    assert "0.2 GB free" in check.detail
    assert "HF_HOME" in check.advice


def test_backbones_say_size_source_and_licence(empty_cache):
    checks = {check.name: check for check in doctor.check_backbones()}
    assert "prior.name=sd15 would download about 2.1 GB from stable-diffusion-v1-5/stable-diffusion-v1-5" in checks["Backbone sd15"].detail
    assert "licence: CreativeML OpenRAIL-M" in checks["Backbone sd15"].detail
    assert all(check.ok is None for check in checks.values())


def test_cached_backbone_is_seen(monkeypatch, tmp_path):
    from fsd_gs.priors import hub

    monkeypatch.setattr(hub, "cached_folder", lambda source: tmp_path if "sd-turbo" in source.repo_id else None)
    checks = {check.name: check for check in doctor.check_backbones()}
    assert checks["Backbone turbo"].ok is True
    assert checks["Backbone sd15"].ok is None


@pytest.mark.parametrize(
    ("memory", "ok", "preset"),
    [(0.0, None, "train.py prompt"), (2.0, None, "default prior"), (8.0, True, "--config mvdream"), (80.0, True, "--config mvdream")],
)
def test_preset_by_memory(memory, ok, preset):
    check = doctor.judge_preset(memory)
    assert check.ok is ok
    assert preset in check.advice
    assert ("flux" in check.detail) == (memory == 80.0)


def test_exit_code_and_table(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: Check("Good", True, "fine"), lambda: Check("Note", None, "so it is")))
    assert doctor.main([], "fsd-gs doctor") == 0
    monkeypatch.setattr(doctor, "CHECKS", (lambda: Check("Bad", False, "broken", "mend it"),))
    assert doctor.main([], "fsd-gs doctor") == 1
    output = capsys.readouterr().out
    assert "mend it" in output
    assert "1 failed: Bad" in output
