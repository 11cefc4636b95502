"""Pages that show what was found: one HTML file each, which loads nothing and can be sent to anyone."""

from dejavlad.report.matched import located_pairs, matched_pairs
from dejavlad.report.matches import ShownMatch
from dejavlad.report.pages import write_demo_page, write_locate_page, write_page
from dejavlad.report.training import Learnt, write_training_page

__all__ = [
    "Learnt",
    "ShownMatch",
    "located_pairs",
    "matched_pairs",
    "write_demo_page",
    "write_locate_page",
    "write_page",
    "write_training_page",
]
