#!/usr/bin/env bash
# Everything that only a GPU can show, on a bare CUDA machine: bash benchmarks/gpu_acceptance.sh [options of gpu_acceptance.py]
# Installs the project into build/acceptance-venv (set PYTHON to use an environment of yours instead), builds gsplat's kernels, then runs
# benchmarks/gpu_acceptance.py. The table is outputs/acceptance/acceptance.md. Needs a driver, nvcc that fits torch's CUDA, and 40 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv build/acceptance-venv
  PYTHON=$PWD/build/acceptance-venv/bin/python
  "$PYTHON" -m pip install -q -c <(grep -v '^torch==' constraints.txt) -e ".[test]"  # torch: the CUDA build that pip finds
fi
case " $* " in
*" cpu "*) ;;
*) # gsplat compiles its kernels at first use, minutes once; for this machine's GPU alone
  TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$("$PYTHON" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')}
  export TORCH_CUDA_ARCH_LIST MAX_JOBS="${MAX_JOBS:-$(nproc)}"
  "$PYTHON" -c 'from fsd_gs.render.cuda import check_cuda; check_cuda(); print("gsplat: kernels are ready")'
  ;;
esac
exec "$PYTHON" benchmarks/gpu_acceptance.py "$@"
