"""Two walks along one path: how often is the right frame found, step by step in Python?

python examples/evaluate_walks.py first_walk/ second_walk/ out/
"""

import sys
from pathlib import Path

import dejavlad as dv
from dejavlad.ground_truth import truth_frames


def main(first: str, second: str, out: str) -> None:
    database, queries = dv.photos(first), dv.photos(second)
    truth = truth_frames(len(database), len(queries), tolerance=2)
    walks = dv.PlaceDataset("walks", database, queries, truth)

    model = dv.fit(dv.load_model("rootsift-vlad"), database)  # the vocabulary is learnt from the map alone
    db = dv.extract(model, database, Path(out) / "database")  # run it again and it resumes
    q = dv.extract(model, queries, Path(out) / "queries")
    ranking = dv.build_index("flat", db).search(q, k=min(100, len(database)))
    result = dv.evaluate(ranking, truth, recall_at=(1, 5), database=database, queries=queries)

    print(result)
    print(dv.report.write_page(result, ranking, walks, Path(out) / "index.html"))


if __name__ == "__main__":
    main(*sys.argv[1:])
