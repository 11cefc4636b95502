"""Where were these photos taken? A map of a folder, and answers with a confidence.

python examples/locate_photos.py photos/ town.map where_was_this.jpg ...
"""

import sys

import dejavlad as dv
from dejavlad.progress import Progress


def tell(progress: Progress) -> None:
    print(f"\r{progress.what}: {progress.done} of {progress.total}", end="", file=sys.stderr)


def main(folder: str, out: str, *queries: str) -> None:
    photos = dv.photos(folder, positions="exif")
    town = dv.PlaceMap.build("rootsift-vlad", photos, out, workers=2, on_progress=tell)
    print(f"\n{town.info()}")
    for answer in town.locate(queries, k=3):
        if answer.failed:
            print(f"{answer.name}: {answer.failed}")
        elif answer.known:
            print(f"{answer.name}: like {answer.matches[0].name}, confidence {answer.confidence:.2f}")
        else:
            print(f"{answer.name}: not a place of this map")


if __name__ == "__main__":
    main(*sys.argv[1:])
