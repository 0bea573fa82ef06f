"""What pyproject.toml cannot say: ``configs/``, which people edit at the top of the checkout, is installed as ``fsd_gs/configs``."""

from setuptools import find_packages, setup

PACKAGES = find_packages(include=["fsd_gs", "fsd_gs.*"])

setup(packages=[*PACKAGES, "fsd_gs.configs"], package_dir={"fsd_gs.configs": "configs"})
