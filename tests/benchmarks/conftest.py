from pathlib import Path

import pytest

from benchmarks import harness, ours, platform, workers


class Here:
    """A worker's commands in this process, which spares its start."""

    def __init__(self, commands):
        self._commands = commands

    def call(self, name, /, **arguments):
        return self._commands[name](**arguments)


@pytest.fixture
def here():
    """Our side of the benchmarks."""
    yield Here(ours.COMMANDS)
    for reader in ours._readers.values():
        reader._store.close()
    ours._readers.clear()
    ours._columns.clear()


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """A folder of its own for what the harness writes."""
    for module in (harness, platform, workers):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    return tmp_path
