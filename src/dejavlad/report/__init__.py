"""Pages that show results: one HTML file each, which loads nothing and can be sent to anyone."""

from dejavlad.report.demo import write_demo_page
from dejavlad.report.evaluate import write_page
from dejavlad.report.locate import write_locate_page
from dejavlad.report.matched import located_pairs, located_points, matched_pairs
from dejavlad.report.matches import ShownMatch
from dejavlad.report.training import Learnt, write_training_page

__all__ = [
    "Learnt",
    "ShownMatch",
    "located_pairs",
    "located_points",
    "matched_pairs",
    "write_demo_page",
    "write_locate_page",
    "write_page",
    "write_training_page",
]
