"""What was acknowledged survives a power cut; by root only: see tests/system/power_cut.py."""

import pytest

from tests.system import power_cut


@pytest.mark.skipif(power_cut.missing() is not None, reason=power_cut.missing() or "")
def test_what_was_acknowledged_survives_power_cuts(pytestconfig):
    counts = power_cut.cut_often(2, pytestconfig.getoption("seed"))
    assert len(counts) == 2
    assert counts[1] > counts[0] > 0
