#!/usr/bin/env bash
# Builds spead2 4.5.1 from its source distribution on PyPI, as C++ and with UDP segmentation offload, which
# its wheel lacks, and benches/spead2/send_batches.cpp on it.
#
#   benches/spead2/build.sh [DIRECTORY]
#
# The result is DIRECTORY/send_batches, by default target/spead2/send_batches: give it to benches/compare.py.
# Needs a C++17 compiler, pkg-config, Boost and libdivide (Debian: g++ pkg-config libboost-dev
# libdivide-dev) and python3; what else building takes goes into a virtual environment.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:-$here/../../target/spead2}"
cd "${1:-$here/../../target/spead2}"

python3 -m venv tools
export PATH=$PWD/tools/bin:$PATH
pip install --quiet --disable-pip-version-check meson-python meson ninja pybind11 jinja2 pycparser packaging
pip download --quiet --disable-pip-version-check --no-deps --no-binary spead2 --no-build-isolation spead2==4.5.1
rm -rf spead2-4.5.1
tar xf spead2-4.5.1.tar.gz
meson setup spead2-4.5.1/build spead2-4.5.1 --buildtype=release -Dtools=disabled -Dpython=false -Dgso=enabled \
    -Dunit_test=disabled >meson.log || { tail -n 20 meson.log; exit 1; }
ninja -C spead2-4.5.1/build src/libspead2.a >ninja.log || { tail -n 20 ninja.log; exit 1; }
g++ -std=c++17 -O2 -o send_batches "$here/send_batches.cpp" -Ispead2-4.5.1/include -Ispead2-4.5.1/build/include \
    spead2-4.5.1/build/src/libspead2.a -lpthread -ldl
echo "built $PWD/send_batches"
