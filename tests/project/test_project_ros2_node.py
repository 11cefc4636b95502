"""The ROS 2 node, with stand-ins for rclpy and its messages."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dejavlad as dv

NODE = Path(__file__).parents[2] / "examples" / "ros2_node.py"


class StandInNode:
    """What the node asks of rclpy."""

    given: dict[str, Any] = {}  # noqa: RUF012  (parameters, as a launch file sets them)

    def __init__(self, name: str) -> None:
        self.name, self.published, self.subscribed = name, [], {}

    def declare_parameter(self, name: str, default: Any) -> SimpleNamespace:
        return SimpleNamespace(value=self.given.get(name, default))

    def create_publisher(self, kind: Any, topic: str, depth: int) -> SimpleNamespace:
        return SimpleNamespace(publish=lambda message: self.published.append((topic, message.data)))

    def create_subscription(self, kind: Any, topic: str, heard: Any, depth: int) -> None:
        self.subscribed[topic] = heard


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    calls: dict[str, Any] = {"spun": [], "shut": 0}

    def spin(node: Any) -> None:
        calls["spun"].append(node)
        raise KeyboardInterrupt

    modules = {
        "rclpy": {
            "init": lambda args: calls.update(args=args),
            "spin": spin,
            "try_shutdown": lambda: calls.update(shut=calls["shut"] + 1),
        },
        "rclpy.node": {"Node": StandInNode},
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Image": object},
        "std_msgs": {},
        "std_msgs.msg": {"String": lambda data: SimpleNamespace(data=data)},
    }
    for name, attributes in modules.items():
        module = ModuleType(name)
        module.__dict__.update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(StandInNode, "given", {"window": 5, "threshold": 0.5})
    yield calls


def message(picture: np.ndarray, stamp: float, encoding: str = "rgb8", padding: int = 0) -> SimpleNamespace:
    height, width = picture.shape[:2]
    rows = picture.reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)))
    return SimpleNamespace(
        encoding=encoding,
        height=height,
        width=width,
        step=padded.shape[1],
        data=padded.tobytes(),
        header=SimpleNamespace(stamp=SimpleNamespace(sec=int(stamp), nanosec=int(1e9 * (stamp % 1)))),
    )


@pytest.fixture
def model(tmp_path: Path, make_view) -> Path:
    photos = [make_view(place) for place in range(12)]
    listed = dv.PlaceDataset.from_arrays([str(i) for i in range(12)], images=photos).database
    fitted = dv.fit(dv.load_model("rootsift-vlad", resize="longest:480"), listed)
    dv.save_model(fitted, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
def test_two_laps(ros: dict[str, Any], model: Path, make_view) -> None:
    script = runpy.run_path(str(NODE))
    node = script["LoopNode"](str(model))
    for frame in range(24):
        picture = make_view(frame % 12, 4 * (frame // 12))
        bgr = frame % 2 == 1
        sent = np.ascontiguousarray(picture[:, :, ::-1]) if bgr else picture
        node.subscribed["image"](message(sent, 100 + frame / 2, "bgr8" if bgr else "rgb8", padding=frame % 3))
    loops = [json.loads(data) for topic, data in node.published if topic == "loop"]
    second = [loop for loop in loops if loop["frame"] >= 12]
    assert len(second) == len(loops) == 12 and all(loop["frame"] - loop["closes"] == 12 for loop in second)
    assert all(loop["stamp"] - loop["closes_stamp"] == pytest.approx(6) for loop in second)


def test_pixels(ros: dict[str, Any]) -> None:
    pixels = runpy.run_path(str(NODE))["pixels"]
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    assert np.array_equal(pixels(message(picture, 0, padding=5)), picture)
    assert np.array_equal(pixels(message(picture[:, :, ::-1].copy(), 0, "bgr8")), picture)
    grey = pixels(message(picture[:, :, :1].copy(), 0, "mono8"))
    assert grey.shape == (4, 6, 3) and np.array_equal(grey[..., 2], picture[..., 0])
    with pytest.raises(ValueError, match="16UC1"):
        pixels(message(picture, 0, "16UC1"))


def test_it_spins_and_ends_cleanly(ros: dict[str, Any], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ros2_node.py", str(model)])
    runpy.run_path(str(NODE), run_name="__main__")
    assert len(ros["spun"]) == 1 and ros["shut"] == 1 and ros["args"] == sys.argv
