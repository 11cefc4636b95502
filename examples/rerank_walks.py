"""Two walks along one path: the best answers compared patch by patch, step by step in Python.

python examples/rerank_walks.py first_walk/ second_walk/ out/
"""

import sys
from pathlib import Path

import dejavlad as dv
from dejavlad.extraction.patches import PatchStore
from dejavlad.fitting import learn_patch_whitening
from dejavlad.ground_truth import truth_frames
from dejavlad.model import PatchSetting


def main(first: str, second: str, out: str) -> None:
    database, queries = dv.photos(first), dv.photos(second)
    truth = truth_frames(len(database), len(queries), tolerance=2)
    patches = PatchSetting(sizes=(2, 5))

    model = dv.fit(dv.load_model("rootsift-vlad"), database)
    if model.whitening is None:  # too few photos to whiten photos by, but patches enough to whiten patches by
        model = learn_patch_whitening(model, database, patches)
    db, q = (
        dv.extract(model, part, Path(out) / name, patches=patches, patch_dtype="int8")
        for name, part in (("database", database), ("queries", queries))
    )
    ranking = dv.build_index("flat", db).search(q, k=min(20, len(database)))
    patches_q, patches_db = (PatchStore.open(store.path).rows(store.keys) for store in (q, db))
    better = dv.Reranker("ransac", k=20)(ranking, patches_q, patches_db)

    for name, answers in (("by descriptors", ranking), ("by patches", better)):
        print(f"{name}: {dv.evaluate(answers, truth, recall_at=(1, 5))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
