"""Learn a descriptor from nothing but rough positions, on a made town; run it again and it goes on.

python examples/train_town.py town/ run/ [photos]
"""

import sys

import dejavlad as dv
from dejavlad.report import write_training_page
from dejavlad.town import make_town
from dejavlad.training import check, initial_model, load_recipe, train


def main(folder: str, out: str, photos: str = "600") -> None:
    town = make_town(folder, photos=int(photos))
    streets, others = dv.open_dataset(town / "train"), dv.open_dataset(town / "val")

    config = load_recipe("town-rootsift").with_settings(["epochs=3"])
    model = initial_model(config, resize="longest:160")
    for finding in check(config, model, streets):
        print("warning:", finding)

    run = train(config, model, streets, others, out)
    for epoch, recall in run.recalls().items():
        print(f"epoch {epoch}: recall@1 {recall[1]:.2f}, recall@5 {recall[5]:.2f} on streets held out")

    best = dv.load_model(f"{out}@best:1")  # or: dejavlad map build run@best:1 photos/ --out town.map
    print(f"{best.name}, {best.descriptor_size} dims; open {write_training_page(run.path)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
