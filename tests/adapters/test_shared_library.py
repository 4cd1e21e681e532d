"""A package's library: found beside the package, which is not imported, or told what is amiss."""

import sys

import pytest

from feilun.adapters.shared_library import open_library
from feilun.errors import MissingExtra, ModelError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of the libraries of a package that cannot be imported."""
    folder = tmp_path / "broken_package" / "lib"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('I was imported.')")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def open_it():
    return open_library("broken_package", "libbroken", name="Broken", extra="broken")


def test_a_library_that_is_none_is_told_with_its_reason(package):
    ending = "dylib" if sys.platform == "darwin" else "so"
    (package / f"libbroken.{ending}").write_bytes(b"no library")
    with pytest.raises(ModelError, match=r"Broken.s library cannot be loaded"):
        open_it()


def test_a_package_without_a_library_is_as_good_as_none(package):
    with pytest.raises(MissingExtra, match=r"feilun\[broken\]"):
        open_it()


def test_a_package_that_is_not_there():
    with pytest.raises(MissingExtra, match=r"feilun\[broken\]"):
        open_it()
