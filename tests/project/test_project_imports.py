"""What importing the package and asking for help may load, and how fast."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "faiss", "matplotlib", "cv2", "scipy", "lightning", "transformers", "numpy.testing")


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys, json; print('\\n' + json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import dejavlad",
        "import dejavlad.cli\nassert dejavlad.cli.main(['--help']) == 0",
        "from dejavlad.cli import build_app\nfor verb in build_app().resolved_commands().values(): verb.help",
        "import dejavlad.cli\ndejavlad.cli.main(['compare', 'none-here', 'nor-here'])",
        "import dejavlad.cli\ndejavlad.cli.main(['config'])",
    ],
    ids=["import", "help", "all verbs", "compare", "config"],
)
def test_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell what processes that ended have used")
@pytest.mark.parametrize(
    ("words", "most"), [(["-c", "import dejavlad"], 0.3), (["-m", "dejavlad", "--help"], 0.15)]
)
def test_is_quick(words: list[str], most: float) -> None:
    def seconds(command: list[str]) -> float:
        """Of the processor, not of the clock: other tests run beside this one."""
        before = os.times()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        after = os.times()
        used = after.children_user - before.children_user, after.children_system - before.children_system
        return sum(used)

    assert 0 < min(seconds(words) for _ in range(7)) < most


def test_public_names_resolve() -> None:
    import dejavlad

    assert list(dejavlad.__all__) == sorted(dejavlad.__all__)
    for name in dejavlad.__all__:
        assert getattr(dejavlad, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dejavlad.nothing  # noqa: B018
