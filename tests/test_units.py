from __future__ import annotations

import pytest

from nfbench import units


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (units.seconds(0.0123), "12.30 ms"),
        (units.seconds(59.96), "59.96 s"),
        (units.seconds(125), "2 min 05 s"),
        (units.seconds(3725), "1 h 02 min"),
        (units.seconds(None), "–"),
        (units.seconds(0), "0 s"),
        (units.si(0.9999, "s"), "1.00 s"),
        (units.si(12.38e9, "MAC"), "12.4 GMAC"),
        (units.bytes_(2**30), "1.00 GiB"),
        (units.bytes_(512), "512 B"),
        (units.percent(0.123), "12.3 %"),
        (units.percent(0), "0 %"),
        (units.number(12345.6), "12,346"),
        (units.number(23.456), "23.46"),
        (units.plus_minus(1.1234, 0.0123), "1.123 ± 0.012"),
        (units.plus_minus(1.1234, 0.0323), "1.12 ± 0.03"),
        (units.plus_minus(1.1234, 0), "1.123"),
        (units.plus_minus(0.75, 1e-16), "0.7500"),
    ],
)
def test_quantities_read_as_a_person_would_write_them(shown: str, wanted: str) -> None:
    assert shown == wanted
