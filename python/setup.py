"""Builds the Go library beside the Python modules; needs Go and a C compiler."""
import pathlib
import subprocess
import sys

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

NAME = "libvlmem.dylib" if sys.platform == "darwin" else "libvlmem.so"


class Build(build_py):
    def run(self):
        super().run()
        root = pathlib.Path(__file__).resolve().parent.parent
        out = pathlib.Path(self.build_lib).resolve() / "vlmem" / NAME
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-trimpath", "-buildmode=c-shared", "-o", str(out), "./cmd/libvlmem"], cwd=root, check=True)
        out.with_suffix(".h").unlink(missing_ok=True)


class Binary(Distribution):
    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": Build}, distclass=Binary)
