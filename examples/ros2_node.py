"""A ROS 2 node that says when the camera is back at a place: a thin layer over `LoopDetector`.

python examples/ros2_node.py MODEL --ros-args -r image:=/camera/image_raw

Listens to `image` (sensor_msgs/Image: rgb8, bgr8 or mono8) and publishes each loop on `loop`
(std_msgs/String): a JSON object with the two frames' numbers and stamps, score and confidence. The model
is to be fitted already: a trained one, or RESULTS/model of `dejavlad loops ... --out RESULTS` on an earlier
drive. Parameters: `window`, `sequence`, and `threshold` (0: what stands out is a loop).
"""

import json
import sys
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String

import dejavlad as dv
from dejavlad.places.loops import LoopDetector

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


def pixels(message: Any) -> np.ndarray:
    """The picture of a message: RGB uint8 [H, W, 3]."""
    if message.encoding not in CHANNELS:
        raise ValueError(f"pictures are {', '.join(CHANNELS)}; this one is {message.encoding}")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    n = CHANNELS[message.encoding]
    picture = rows[:, : n * message.width].reshape(message.height, message.width, n)
    if n == 1:
        return np.repeat(picture, 3, axis=2)
    return picture if message.encoding == "rgb8" else picture[:, :, ::-1]


class LoopNode(Node):
    """Describes each picture, and tells of the loops that it closes."""

    def __init__(self, model: str) -> None:
        super().__init__("dejavlad_loops")
        window = int(self.declare_parameter("window", 30).value)
        sequence = int(self.declare_parameter("sequence", 1).value)
        threshold = float(self.declare_parameter("threshold", 0.0).value)
        self.model, self.stamps = dv.load_model(model), []
        self.model.require_fitted()
        self.detector = LoopDetector(window=window, sequence=sequence, threshold=threshold or None)
        self.loops = self.create_publisher(String, "loop", 10)
        self.create_subscription(Image, "image", self.look, 10)

    def look(self, message: Any) -> None:
        """Describe one picture, and publish the loop that it closes, if any."""
        self.stamps.append(message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec)
        row = self.model.encode([np.ascontiguousarray(pixels(message))])[0]
        loop = self.detector.add(row)
        if loop is not None:
            report = {"frame": loop.frame, "closes": loop.closes}
            report |= {"score": loop.score, "confidence": loop.confidence}
            report |= {"stamp": self.stamps[loop.frame], "closes_stamp": self.stamps[loop.closes]}
            self.loops.publish(String(data=json.dumps(report)))


def main(model: str) -> None:
    rclpy.init(args=sys.argv)
    try:
        rclpy.spin(LoopNode(model))
    except KeyboardInterrupt:
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
