"""The verbs of the command: where each lies, and its one line; no verb's module is imported for these."""

from __future__ import annotations

from typing import Final

VERBS: Final[dict[str, tuple[tuple[str, str, str], ...]]] = {
    "Recognise places": (
        ("demo", "demo:demo", "The whole story on a made town: map, locate, evaluate, and a page."),
        ("map", "map_:app", "A map to locate photos in: build it, add, remove and move photos."),
        ("locate", "locate:locate", "Where was it taken? The most similar places, and if it is known."),
        ("serve", "serve:serve", "Maps over HTTP: a page to drop photos on, and an API for programs."),
        ("match", "match:match", "Do two photos show the same place? A probability, and the points."),
        ("loops", "loops:loops", "Loop closures: which frames of a sequence show a place seen before."),
        ("pairs", "pairs:pairs", "Each query with its best map photos, as pairs that other tools read."),
    ),
    "Measure": (
        ("evaluate", "evaluate:evaluate", "Recall and the rest on photos whose places are known."),
        ("rerank", "rerank:rerank", "Re-rank a ranking by patches or local features."),
        ("compare", "compare:compare", "Results side by side; never across different protocols."),
        ("bench", "bench:bench", "Several models on one dataset: recall, speed and size, side by side."),
        ("explain", "explain:explain", "Why is my number another? The ranking under every known protocol."),
        ("dataset", "dataset:app", "Look at a dataset, check it, list photos, make a truth or a town."),
    ),
    "Models": (
        ("models", "models:app", "Names, sizes, licences, where weights come from, which are here."),
        ("extract", "extract:extract", "Describe photos into a store; run it again to go on."),
        ("store", "store:app", "Stores of descriptors: merge those of many machines, check them."),
        ("train", "train:train", "Learn a descriptor from photos and their rough positions."),
        ("whiten", "whiten:whiten", "Learn principal components and whitening, and add them to a model."),
        ("export", "export:export", "A model as a file of ONNX, with a certificate of what it answers."),
        ("import", "models:import_", "A model folder from a checkpoint of the originals."),
        ("verify", "models:verify", "Compare a model with a reference, layer by layer."),
    ),
    "Settings": (("config", "config:config", "Each setting, its value and where it comes from."),),
}
"""Group -> (name, module of `dejavlad.cli` and what it holds, one line)."""

HELP: Final = """Have I seen this place before? Recognise places from photographs.

Start with the demo, or with photos of your own:

    dejavlad demo
    dejavlad map build photos/ --out town.map
    dejavlad locate town.map where_was_this.jpg
"""


def help_text() -> str:
    """What `dejavlad --help` prints."""
    width = max(len(name) for verbs in VERBS.values() for name, _, _ in verbs)
    lines = ["Usage: dejavlad COMMAND ...", "", HELP]
    for group, verbs in VERBS.items():
        lines += [f"{group}:", *(f"  {name.ljust(width)}  {line}" for name, _, line in verbs), ""]
    lines.append("`dejavlad COMMAND --help` tells a command's options, with examples.")
    return "\n".join(lines)
