"""Tests of one group run on one worker, one after the other: they would take each other's time."""

import pytest


@pytest.mark.xdist_group("up")
def test_the_worker_knows_the_group_of_a_test(request):
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("Only with --dist loadgroup, as `make test` runs it.")
    assert request.node.nodeid.endswith("@up")
