from __future__ import annotations

import time

from nfbench.devices.fake import FakeDevice
from nfbench.measuring.meters import meters
from nfbench.measuring.meters.memory import Memory
from nfbench.measuring.meters.others import Others


def test_the_fake_device_is_metered_for_memory_alone() -> None:
    assert [type(m) for m in meters(FakeDevice())] == [Memory]


def test_what_this_process_burns_is_not_counted_as_others() -> None:
    gauge = Others()
    gauge.start()
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    (found,) = gauge.stop(1.0)
    assert found.name == "others_cpu"
    assert 0 <= found.values[0] < 0.9  # type: ignore[operator]
