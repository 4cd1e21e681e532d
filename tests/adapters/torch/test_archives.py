"""A hostile `.pt2` as an archive. It is read without PyTorch, so it is tested without."""

import io
import os
import tracemalloc
import zipfile

import pytest

from feilun.adapters.torch.program import read_program
from feilun.errors import ModelError
from feilun.models.formats import recognise

MODEL = "m/models/model.json"


def archive(*files, kind=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as made:
        made.writestr("m/archive_format", "pt2")
        for name, data in files:
            made.writestr(name, data)
    return buffer.getvalue()


def refused(data, reason):
    assert recognise(data) == "torch-export/1"
    with pytest.raises(ModelError, match=reason):
        read_program(data, 2)


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_unpacked(kind):
    data = archive((MODEL, b" " * (64 << 20)), kind=kind)
    assert len(data) < 1 << 20
    tracemalloc.start()
    try:
        refused(data, "compressed")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_size_that_is_not_true_is_not_allocated():
    data = archive((MODEL, b"{}"))
    at = data.rindex(b"PK\x01\x02")
    huge = data[: at + 24] + (0xFFFFFFF0).to_bytes(4, "little") + data[at + 28 :]
    refused(huge, "too large")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_comes_twice_is_refused():
    refused(archive((MODEL, b"{}"), (MODEL, b"[]")), "twice")
    refused(archive((MODEL, b"{}"), ("n/models/model.json", b"[]")), "twice")


@pytest.mark.parametrize(
    "name", ["../models/x.json", "/models/x.json", "m/models/../x.json", "m/models/..\\x.json",
             "m/models/x.json/", "C:\\models\\x.json"]
)  # fmt: skip
def test_nothing_is_written_whatever_its_files_are_called(name, tmp_path, monkeypatch):
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    refused(archive((name, b"{}")), "cannot be run")
    assert [names for *_, names in os.walk(tmp_path) if names] == []


def test_a_document_nested_too_deeply_is_refused():
    refused(archive((MODEL, b"[" * 1_000_000)), "cannot be run")
