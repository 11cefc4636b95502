"""`dejavlad pairs --verify`: pairs that agree in space alone, and the scores of all."""

import csv

import numpy as np


def test_pairs_of_a_ranking_are_verified(run, tmp_path, make_view, make_photo):
    for place in (0, 1):
        make_photo(tmp_path / "db" / f"d{place}.png", make_view(place, 0, 192, 256))
    make_photo(tmp_path / "q" / "a.png", make_view(1, 6, 192, 256))
    indices, distances = np.array([[0, 1]]), np.array([[0.1, 0.2]], np.float32)
    np.savez(tmp_path / "r.npz", indices=indices, distances=distances)
    words = ("pairs", "r.npz", "--database", "db", "--queries", "q", "--format", "hloc", "--out", "p.txt")
    status, _, err = run(*words, "--verify", "sift", "--quiet")
    assert status == 0, err
    assert (tmp_path / "p.txt").read_text().split() == ["a.png", "d1.png"]
    with open(tmp_path / "p.txt.scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["database"] for row in rows] == ["d0.png", "d1.png"]
    assert int(rows[1]["inliers"]) > 50 > 20 > int(rows[0]["inliers"])
    (tmp_path / "names.txt").write_text("a.png, d1.png\n")
    status, _, err = run("pairs", "names.txt", "--format", "hloc", "--out", "n.txt", "--verify", "sift")
    assert status == 1 and "--verify needs photos" in err
