"""What importing the package and asking for help may load, and how fast."""

import json
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "faiss", "matplotlib", "cv2", "scipy", "lightning", "transformers", "numpy.testing")


def loaded_by(code: str) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys, json; print('\\n' + json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(told.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    ["import dejavlad", "import dejavlad.cli\nassert dejavlad.cli.main(['--help']) == 0"],
    ids=["import", "help"],
)
def test_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


@pytest.mark.parametrize("words", [["-c", "import dejavlad"], ["-m", "dejavlad", "--help"]])
def test_is_quick(words: list[str]) -> None:
    def seconds(command: list[str]) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        return time.perf_counter() - started

    # The least of several runs: what the machine does beside it only ever adds.
    assert min(seconds(words) for _ in range(7)) < 0.3


def test_public_names_resolve() -> None:
    import dejavlad

    assert list(dejavlad.__all__) == sorted(dejavlad.__all__)
    for name in dejavlad.__all__:
        assert getattr(dejavlad, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dejavlad.nothing  # noqa: B018
