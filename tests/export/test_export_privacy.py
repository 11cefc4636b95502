"""OpenVINO, NNCF and MNN send nothing from our process, though by themselves they would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

WATCHED = """
import json, socket, sys, threading
tried = []

def refuse(*address, **_):
    tried.append(str(address[:2]))
    raise OSError("no network in this test")

socket.getaddrinfo = refuse
socket.socket.connect = lambda self, address: refuse(address)
{work}
for thread in threading.enumerate():
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join(2)
print(json.dumps([len(tried), type(sys.modules.get("openvino_telemetry")).__name__]))
"""
OURS = """
from dejavlad.export.openvino_session import has_bf16
has_bf16()
if {nncf}:
    from dejavlad.export.nncf_quantiser import NncfQuantiser
    NncfQuantiser()
"""


def tried_by(work: str, home: Path) -> tuple[int, str]:
    """How many connections were tried by a program, and what is in the place of the telemetry's module."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("CI", "NNCF_CI", "TF_BUILD")
    }
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.replace("{work}", work)],
        env={**environment, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    count, kind = json.loads(done.stdout.splitlines()[-1])
    return int(count), str(kind)


@pytest.mark.slow
def test_no_connection_is_tried(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    count, kind = tried_by(OURS.replace("{nncf}", str(find_spec("nncf") is not None)), tmp_path)
    assert (count, kind) == (0, "NoneType")
    assert not list(tmp_path.rglob("openvino*")), "a file of consent or of an identity was written"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openvino_telemetry") is None, reason="openvino-telemetry is not installed")
def test_the_test_above_sees_what_openvino_does_by_itself(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    count, kind = tried_by("import openvino", tmp_path)
    assert kind == "module"
    assert count > 0 or list(tmp_path.rglob("openvino*"))
