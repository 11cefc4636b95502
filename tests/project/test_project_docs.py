"""The documentation: what it shows runs; the site builds without warnings and loads nothing from outside."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dejavlad.aggregation import AGGREGATIONS
from dejavlad.backbones import BACKBONES
from dejavlad.cli import main
from dejavlad.datasets import DATASETS
from dejavlad.evaluation.protocols import PROTOCOLS
from dejavlad.places import PlaceMap
from dejavlad.rerank import MATCHERS
from dejavlad.zoo import list_models

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("extending/*.md"))
GUIDES = ["index.md", *sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("guides/*.md"))]
OUTPUT = {
    "extending/aggregation.md": "rootsift-moments 256",
    "extending/dataset.md": "12 12 [1, 1,",
    "extending/backbone.md": "pebble-netvlad 2048",
    "extending/matcher.md": "[ 0  1  2  3  4  5  6  7  8  9 10 11]",
    "extending/protocol.md": "right is within 1 frame; unlike published: nothing",
}
"""What the examples print, in part."""


@pytest.fixture
def workplace(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages speak of: photos/, newer/, left/, right/, harbour/, where_was_this.jpg."""
    copies = {"photos": "database", "left": "database", "right": "queries"}
    copies |= {"harbour/day": "database", "harbour/night": "queries"}
    for name, part in copies.items():
        shutil.copytree(street / part, tmp_path / name)
    with (tmp_path / "harbour" / "poses.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("name", "east", "north"))
        for drive, aside in (("day", 0), ("night", 3)):
            table.writerows((f"{drive}/{place:02d}.png", 50 * place, aside) for place in range(12))
    shutil.copy(street / "queries" / "03.png", tmp_path / "where_was_this.jpg")
    (tmp_path / "newer").mkdir()
    shutil.copy(street / "queries" / "05.png", tmp_path / "newer" / "evening.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registries() -> Iterator[None]:
    """Names that an example registers are forgotten after it."""
    tables = [DATASETS, BACKBONES, AGGREGATIONS, MATCHERS, PROTOCOLS]
    before = [dict(table) for table in tables]
    yield
    for table, names in zip(tables, before, strict=True):
        table.clear()
        table.update(names)


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_models_that_stand_for_those_of_other_programs_have_these_names() -> None:
    """coming-from.md: what stands on the right of hloc, VPR-methods-evaluation and torch.hub."""
    text = (DOCS / "coming-from.md").read_text(encoding="utf-8")
    known = {entry.name for entry in list_models()}
    named = set()
    for title in ("hloc", "VPR-methods-evaluation", "torch.hub"):
        section = text.split(f"## {title}\n")[1].split("\n## ")[0]
        for row in section.splitlines():
            right = row.rsplit("|", 2)[-2] if row.startswith("|") else ""
            named |= set(re.findall(r'`([a-z][a-z0-9-]+)`|load_model\("([^"]+)"\)', right))
    names = {name or loaded for name, loaded in named}
    assert {"megaloc", "salad", "boq-dinov2", "cosplace-resnet50-2048", "eigenplaces-resnet50-2048"} <= names
    assert names <= known


def run_python(page: str) -> None:
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), namespace)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_extension_example(
    page: str, workplace: Path, registries: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run_python(page)
    assert OUTPUT[page] in capsys.readouterr().out


def assert_serves(words: list[str], folder: Path) -> None:
    """Starts a service as a guide writes it, but on a free port, asks it, and stops it."""
    pytest.importorskip("uvicorn")
    from dejavlad.client import Client

    photos = sorted((folder / "photos").iterdir())[:3]
    maps = [word for word in words if word.endswith(".map")]
    assert maps
    for name in maps:
        if not (folder / name).exists():
            PlaceMap.build("rootsift-vlad", photos, folder / name)
    command = [sys.executable, "-m", "dejavlad", *words, "--port", "0", "--json", "--quiet"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            ready = json.loads(service.stdout.readline())
            with Client(ready["address"]) as client:
                (answer,) = client.locate([photos[1]], map=ready["maps"][0], k=1)
            assert answer["matches"][0]["name"].endswith(photos[1].name)
        finally:
            service.terminate()
    if os.name == "posix":
        assert service.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES)
def test_guide(page: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [line for block in blocks(page, "sh") for line in block.splitlines()]
    for command in commands:
        words = re.sub(r"\s+#.*", "", command).split()[1:]
        if command.startswith("dejavlad serve"):
            assert_serves(words, workplace)
        elif command.startswith("dejavlad"):
            assert main(words) == 0, (command, capsys.readouterr().err)
    run_python(page)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy so that the checkout stays as it is."""
    pytest.importorskip("zensical")
    copy = tmp_path_factory.mktemp("site")
    for folder in ("docs", "src"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", copy)
    build = [sys.executable, "-m", "zensical", "build", "--config-file", "mkdocs.yml", "--strict", "--clean"]
    done = subprocess.run(build, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy / "out" / "site"


@pytest.mark.slow
def test_site_requests_nothing_outside(site: Path) -> None:
    loading = re.compile(
        r"<(?:script|img|iframe|source|video|audio|object|embed)\b[^>]*?\s(?:src|data)=[\"']?([^\"'\s>]+)"
    )
    link = re.compile(r"<link\b[^>]*>")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        text = page.read_text(encoding="utf-8")
        addresses = loading.findall(text)
        addresses += [tag for tag in link.findall(text) if 'rel="canonical"' not in tag]
        assert addresses
        assert not [address for address in addresses if re.search(r"(?:https?:)?//", address)], page
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")
        ), style


@pytest.mark.slow
def test_site_has_the_public_names(site: Path) -> None:
    import dejavlad

    anchors = {
        name
        for page in site.glob("api/**/*.html")
        for name in re.findall(r'id="(dejavlad\.\w+)"', page.read_text())
    }
    missing = (
        {f"dejavlad.{name}" for name in dejavlad.__all__}
        - anchors
        - {"dejavlad.pipelines", "dejavlad.report"}
    )
    assert not missing
    page = (site / "api" / "maps.html").read_text(encoding="utf-8")
    methods = ("build", "open", "add", "remove", "move", "compact", "check", "info", "locate", "photos")
    assert all(f'id="dejavlad.PlaceMap.{method}"' in page for method in methods)


def test_links_of_the_documents() -> None:
    """Each relative link of README, CONTRIBUTING and docs leads to a file that exists."""
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    for document in documents:
        text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target:
                assert (document.parent / target).exists(), (document, target)
