#!/bin/sh
# Build the wheel, install it beside the requirements of .venv, and run the tests away from the checkout.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
"$root/.venv/bin/python" -m build --quiet --wheel --outdir "$room" "$root"
"${1:-python3}" -m venv "$room/venv"
# torch and the rest are several gigabytes: borrowed from .venv, whose editable cxrzoo must not be found first
"$room/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$room"/cxrzoo-*.whl
site=$("$root/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
own=$("$room/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for entry in "$site"/*; do
    case $(basename "$entry") in
        cxrzoo* | __editable__*cxrzoo* | __pycache__ | pip | pip-*) ;;
        *) [ -e "$own/$(basename "$entry")" ] || ln -s "$entry" "$own/" ;;
    esac
done
cp -r "$root/tests" "$room/tests"
cd "$room"
printf '[pytest]\naddopts = --import-mode=importlib\ntmp_path_retention_policy = failed\npythonpath = tests\nmarkers =\n    slow: s\n    data: d\n' >pytest.ini
exec env -u PYTHONPATH "$room/venv/bin/python" -I -m pytest -q -n 2 -m "not slow" tests
