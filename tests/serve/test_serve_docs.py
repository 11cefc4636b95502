"""The commands of the documentation, each run as it stands against a service."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import PLACES, Runner, Town, build_town

DOCS = Path(__file__).parents[2] / "docs" / "http.md"


def commands() -> list[str]:
    """The lines that begin with curl, those that go on being joined."""
    blocks = re.findall(r"```sh\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    joined = re.sub(r"\\\n\s*", " ", "\n".join(blocks))
    return [line for line in joined.splitlines() if line.startswith("curl ")]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_every_curl_line_does_what_it_says(run: Runner, tmp_path: Path) -> None:
    town: Town = build_town(tmp_path, places=6)
    running = run(town.map, writable=True)
    for name, place in (("where.jpg", 3), ("a.jpg", 3), ("b.jpg", 3), ("new.jpg", 2)):
        shutil.copy(town.query(place), tmp_path / name)
    lines = commands()
    assert len(lines) >= 15 and len(lines) == len(set(lines))
    job = ""
    for line in lines:
        command = line.replace("http://localhost:8000", running.address.rstrip("/")).replace(
            "jobs/JOB", f"jobs/{job}"
        )
        words = [*shlex.split(command), "--fail-with-body", "--max-time", "60"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=90)
        assert done.returncode == 0, (line, done.stdout[:300], done.stderr[:300])
        if " -o " in line:
            target = tmp_path / words[words.index("-o") + 1]
            assert target.stat().st_size > 100
            continue
        answer = json.loads(done.stdout)
        assert "error" not in answer or answer["error"] is None
        job = answer.get("id", job)
        if "/v1/jobs/" in line:
            running.client.wait(answer)
        if "/v1/locate" in line:
            assert answer["answers"][0]["known"]
    names = {path.name for path in tmp_path.glob("*.npy")} | {path.name for path in tmp_path.glob("*.jpg")}
    assert {"rows.npy", "placed.jpg", "small.jpg"} <= names
    assert PLACES > 6


def test_json_in_the_documentation_is_json() -> None:
    for block in re.findall(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S):
        json.loads(block)


def test_every_address_is_documented() -> None:
    from dejavlad.serve.operations import OPERATIONS

    text = DOCS.read_text(encoding="utf-8")
    for operation in OPERATIONS:
        assert operation.path.removesuffix("/image") in text, operation.path


@pytest.mark.slow
def test_the_clients_example_runs(run: Runner, tmp_path: Path) -> None:
    town = build_town(tmp_path, places=6)
    running = run(town.map)
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    code = code.replace("http://localhost:8000", running.address.rstrip("/"))
    code = code.replace('"where.jpg"', repr(str(town.query(3))))
    names: dict[str, object] = {}
    exec(code, names)
    assert names["answer"]["known"]  # type: ignore[index]
    names["client"].close()  # type: ignore[attr-defined]
