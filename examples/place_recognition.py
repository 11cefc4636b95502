"""NetVLAD's demo anew: describe a dataset, measure by a published protocol, with fewer and fewer dimensions.

python examples/place_recognition.py pitts30k-test pitts30k-test@25m out/ vgg16-netvlad-pitts30k
python examples/place_recognition.py my_walks/ gardens@2f out/
"""

import sys
from pathlib import Path

import dejavlad as dv
from dejavlad.evaluation.protocols import protocol
from dejavlad.pipelines.evaluation import rank, sweep
from dejavlad.pipelines.scoring import Scoring, score


def main(dataset: str, measure: str, out: str, name: str = "rootsift-vlad") -> None:
    way = protocol(measure)
    places = way.under(dv.open_dataset(dataset))  # what is right, and what is left out of rankings
    scoring = Scoring(recall_at=(1, 2, 3, 4, 5, 10, 15, 20, 25), misses=way.misses, protocol=way.name)

    model = dv.load_model(name)
    model = model if model.fitted else dv.fit(model, places.database)
    db = dv.extract(model, places.database, Path(out) / "database")  # run it again and it resumes
    queries = dv.extract(model, places.queries, Path(out) / "queries")

    ranking = rank(db, queries, scoring, places.truth)
    dims = [d for d in (64, 128, 256, 512, 1024, 2048) if d < db.dims]  # NetVLAD's are sorted by variance
    fewer = sweep(db, queries, places, dims, scoring)
    description = {"name": name, "dims": db.dims}
    result = score(ranking, places, Path(out), scoring, model=description, dims=fewer)

    print(f"{way.name}, where right is {way.right} ({way.source})")
    print(result)
    print(dv.report.write_page(result, ranking, places, Path(out) / "index.html"))


if __name__ == "__main__":
    main(*sys.argv[1:])
