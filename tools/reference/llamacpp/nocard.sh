#!/bin/bash
# nocard.sh LIBGGML-CUDA.so CUDA-HEADERS FOLDER: builds libcudart, libcublas and libcuda of nocard.cpp into FOLDER, under the
# names and versions that the backend links. Headers: pip install --target H nvidia-cuda-runtime nvidia-cuda-crt, H/nvidia/cu13/include.
set -e
[ $# = 3 ] || { sed -n 2,3p "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$3"
g++ -std=c++17 -O1 -w -fPIC -fvisibility=default -I"$2" -c "$here/nocard.cpp" -o "$3/nocard.o"
has=$(nm --defined-only "$3/nocard.o" | awk '$2 == "T" {print $3}')
for library in $(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(lib\(cudart\|cublas\|cuda\)\.so[.0-9]*\)\]/\1/p'); do
	case $library in libcudart*) names='^(__)?cuda' ;; libcublas*) names='^cublas' ;; *) names='^cu[A-Z]' ;; esac
	nm -D --undefined-only "$1" | awk '{print $NF}' | cut -d@ -f1 | grep -E "$names" | sort -u | grep -vxF "$has" |
		sed 's/.*/long &(void) { return 0; }/' >"$3/rest.c" || true
	cc -w -fPIC -c "$3/rest.c" -o "$3/rest.o"
	printf '%s { global: *; };\n' "$library" >"$3/version"
	g++ -shared -o "$3/$library" "$3/nocard.o" "$3/rest.o" -Wl,-soname,"$library",--version-script="$3/version"
done
rm -f "$3"/{nocard.o,rest.c,rest.o,version}
ls "$3"
