"""How many photos each known dataset holds, as published: one plain table.

A count that the datasets' own files tell here is `sure`; one that is only quoted from papers and tools is
not, and a difference from it is told, but as a remark.
"""

from __future__ import annotations

from dataclasses import dataclass

from dejavlad.datasets.kitti import FRAMES

SPEC = "NetVLAD's dataset spec"
LISTS = "Patch-NetVLAD's lists"
BENCH = "VPR-Bench"
QUOTED = "quoted in papers"


@dataclass(frozen=True, slots=True)
class Published:
    """One dataset."""

    database: int | None
    """Photos of the database; None where it is not known."""
    queries: int | None
    """Queries; None where it is not known."""
    source: str
    """Who says so."""
    positives: int | None = None
    """Right answers of all queries together, as the dataset itself tells them."""
    sure: bool = True
    """Whether this was counted in published files."""


PUBLISHED: dict[str, Published] = {
    "pitts30k-train": Published(10_000, 7_416, SPEC, 1_017_792),
    "pitts30k-val": Published(10_000, 7_608, SPEC, 1_065_600),
    "pitts30k-test": Published(10_000, 6_816, SPEC, 968_448),
    "pitts250k-train": Published(91_464, 7_824, SPEC, 1_093_824),
    "pitts250k-val": Published(78_648, 7_608, SPEC, 1_065_600),
    "pitts250k-test": Published(83_952, 8_280, SPEC, 1_271_808),
    "tokyotm-train": Published(49_104, 7_277, SPEC, 1_580_184),
    "tokyotm-val": Published(49_056, 7_186, SPEC, 1_239_660),
    "tokyotm-tiny-train": Published(120, 60, SPEC),
    "tokyotm-tiny-val": Published(120, 60, SPEC),
    "tokyo247": Published(75_984, 315, SPEC, 37_260),
    **{f"tokyo247-{light}": Published(75_984, 105, SPEC, 12_420) for light in ("day", "sunset", "night")},
    "msls-val": Published(18_871, 740, LISTS),
    "msls-cph": Published(12_556, 498, LISTS),
    "msls-sf": Published(6_315, 242, LISTS),
    "msls-val-every": Published(18_871, 11_084, QUOTED, sure=False),
    "nordland": Published(27_592, 27_592, LISTS, 27_592 * 21 - 110),
    "nordland-2760": Published(27_592, 2_760, LISTS, 2_760 * 3 - 1),
    "nordland-3450": Published(3_450, 3_450, QUOTED, sure=False),
    "sped": Published(607, 607, BENCH + ", " + QUOTED, sure=False),
    "essex3in1": Published(210, 210, BENCH + ", " + QUOTED, sure=False),
    "gardens-point": Published(200, 200, "Gardens Point Walking"),
    "gardens-point-night": Published(200, 200, "Gardens Point Walking"),
    "corridor": Published(111, 111, BENCH, 111 * 5 - 6),
    "gsv-cities": Published(None, None, "GSV-Cities: about 530,000 photos of 62,000 places", sure=False),
    "vg-pitts30k-train": Published(10_000, 7_416, SPEC),
    "vg-pitts30k-val": Published(10_000, 7_608, SPEC),
    "vg-pitts30k-test": Published(10_000, 6_816, SPEC),
    "vg-pitts250k-train": Published(91_464, 7_824, SPEC),
    "vg-pitts250k-val": Published(78_648, 7_608, SPEC),
    "vg-pitts250k-test": Published(83_952, 8_280, SPEC),
    "vg-tokyo247": Published(75_984, 315, SPEC),
    "vg-nordland": Published(27_592, 27_592, LISTS),
    "vg-nordland-2760": Published(27_592, 2_760, LISTS),
    "vg-msls-val": Published(18_871, 11_084, QUOTED, sure=False),
    "vg-sped": Published(607, 607, QUOTED, sure=False),
    "amstertime": Published(1_231, 1_231, QUOTED, sure=False),
    "st-lucia": Published(1_549, 1_464, QUOTED, sure=False),
    "eynsham": Published(
        23_935, 23_935, "VPR datasets downloader: 4,787 panoramas of 5; " + QUOTED, sure=False
    ),
    "san-francisco": Published(1_046_587, 598, QUOTED, sure=False),
    **{
        f"svox-{sky}": Published(17_166, queries, QUOTED, sure=False)
        for sky, queries in (("night", 823), ("overcast", 872), ("rain", 937), ("snow", 870), ("sun", 854))
    },
    **{
        f"sf-xl-{which}": Published(2_805_840, queries, QUOTED, sure=False)
        for which, queries in (("v1", 1_000), ("v2", 598), ("night", 466), ("occlusion", 76))
    },
    "sf-xl-val": Published(8_015, 7_993, QUOTED, sure=False),
    **{f"oxford5k{how}": Published(5_063, 55, "NetVLAD's dbVGG.m") for how in ("", "-whole")},
    **{f"paris6k{how}": Published(6_392, 55, "NetVLAD's dbVGG.m") for how in ("", "-whole")},
    **{
        f"roxford5k-{how}": Published(4_993, 70, "gnd_roxford5k.pkl", right)
        for how, right in (("easy", 3_029), ("medium", 5_526), ("hard", 2_497))
    },
    **{
        f"rparis6k-{how}": Published(6_322, 70, "gnd_rparis6k.pkl", right)
        for how, right in (("easy", 6_874), ("medium", 17_224), ("hard", 10_350))
    },
    **{
        name: Published(1_491, 500, "NetVLAD's dbHolidays.m", 991)
        for name in ("holidays", "holidays-rotated")
    },
    **{
        f"kitti-{sequence}": Published(n, n, "KITTI's poses", sure=sequence == "00")
        for sequence, n in FRAMES.items()
    },
}
"""Name -> its counts."""
