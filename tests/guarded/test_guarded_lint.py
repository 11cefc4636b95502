"""Each small format is read in one place, under limits: nothing else calls the libraries that trust files."""

import re
from pathlib import Path

import pytest

import dejavlad

SOURCE = Path(dejavlad.__file__).parent
BANNED = re.compile(
    r"\bjson\.loads?\(|\btomllib\b|\bnp\.(load|fromfile|loadtxt|genfromtxt)\(|\bnumpy\.load\(|\bh5py\.File\("
    r"|import h5py"
    r"|\bzipfile\b(?!\.BadZipFile)|\btarfile\b|\bpickle\.loads?\(|\bpickle\.Unpickler\b|\byaml\b|\bshelve\b|\bmarshal\b"
    r"|\.read_text\(|\.read_bytes\(|(?<![.\w])(eval|exec)\("
)
ALLOWED = {
    "json.loads(json.dumps(": "a value of ours, made plain",
    'resources.files("dejavlad.recipes")': "a file of the package",
    'files("dejavlad.report").joinpath(': "a file of the package",
    'joinpath(f"{name}.toml").read_text': "a file of the package",
    "(self.path / name).read_bytes() != data": "compared with what is written next",
    '(self.path / "photos.jsonl").read_bytes() != text': "compared with what is written next",
}


@pytest.mark.slow
def test_readers_are_guarded() -> None:
    complaints = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.parent.name == "guarded":
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            code = line.split("#", 1)[0]
            if BANNED.search(code) and not any(part in code for part in ALLOWED) and "`" not in code:
                complaints.append(f"{path.relative_to(SOURCE)}:{number}: {line.strip()}")
    assert not complaints, "use dejavlad.guarded instead:\n" + "\n".join(complaints)
