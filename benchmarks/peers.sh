#!/usr/bin/env bash
# Makes the peers' environment (SpeechBrain, Asteroid, pyctcdecode, msclap) in .venv-peers, or in the folder given as the first argument.
# Safe to call again: it does nothing when the environment is complete. torch is held at one version, so that the two
# environments run the same kernels; on a machine without a GPU, point PIP_EXTRA_INDEX_URL at the CPU wheels of torch.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$here/../.venv-peers}"
python="${PYTHON:-python3.11}"
done_mark="$folder/.complete"

if [[ -f "$done_mark" ]] && cmp -s "$done_mark" "$here/peers-requirements.txt"; then
  exit 0
fi
"$python" -m venv "$folder"
constraint="$folder/constraint.txt"
printf 'torch==2.13.0\n' > "$constraint"
pip=("$folder/bin/python" -m pip install --quiet --constraint "$constraint")
# torchaudio's wheel asks for the torch it was built with, whose kernels are not needed here: take it as it is.
grep -v '^torchaudio' "$here/peers-requirements.txt" > "$folder/requirements.txt"
"${pip[@]}" --no-deps torchaudio==2.11.0
"${pip[@]}" -r "$folder/requirements.txt"
"${pip[@]}" --no-deps asteroid==0.7.0 asteroid-filterbanks==0.4.0 pyctcdecode==0.5.0 \
  msclap==1.3.4 torchlibrosa==0.1.0
# The compiled part of torchaudio links against CUDA and fails to load beside a CPU torch; no peer uses it.
find "$folder" -path '*torchaudio/lib/_torchaudio.abi3.so' -delete
"$folder/bin/python" -c 'import speechbrain.lobes.models.dual_path, asteroid.models, pyctcdecode, msclap'
cp "$here/peers-requirements.txt" "$done_mark"
