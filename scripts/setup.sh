#!/bin/sh
# Make .venv from requirements.lock. Quick when nothing changed: a stamp in .venv holds the lock file's checksum.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON to one." >&2; exit 1; }
stamp=$(cat requirements.lock pyproject.toml | cksum)
[ -f .venv/stamp ] && [ "$(cat .venv/stamp)" = "$stamp" ] && exit 0
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=".venv/bin/python -m pip --disable-pip-version-check"
install="$pip install -q --no-compile"
torch=$(grep '^torch==' requirements.lock)
if ! command -v nvidia-smi >/dev/null 2>&1 && ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    # Without an NVIDIA GPU a CPU build will do: one that lies on disk, else PyTorch's own index, else whatever pip is set up for.
    echo "Installing PyTorch (CPU build if there is one)"
    $install --no-deps --no-index "$torch" 2>/dev/null ||
        $install --no-deps --retries 0 --timeout 20 --index-url https://download.pytorch.org/whl/cpu "$torch" 2>/dev/null ||
        echo "No CPU build at hand; pip takes the usual one, which is larger."
fi
echo "Installing the locked packages"
$install -r requirements.lock
$install --no-deps --no-build-isolation -e .
# Compiled here instead of by pip, on all cores. Some packages hold templates that are no Python; those are passed over.
.venv/bin/python -W ignore -m compileall -qq -j 0 .venv/lib >/dev/null || true
echo "$stamp" > .venv/stamp
