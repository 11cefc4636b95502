"""Damaged PyTorch, Keras and TensorFlow files, as `fuzz` does it for MATLAB's.

``python tests/convert/fuzz_torch_keras_tf.py 2000`` mutates each of the small networks here 2000 times.
"""

import sys
import tempfile
from pathlib import Path

import fuzz
import test_convert_keras as keras
import test_convert_tensorflow as tensorflow
import test_convert_torch as torch_files
from bundle import write_bundle
from safetensors.torch import save_file


def seeds(folder: Path) -> dict[str, Path]:
    """A small network of each kind, in a folder of its own with what must lie beside it."""

    def place(kind: str) -> Path:
        (folder / kind).mkdir()
        return folder / kind

    state = torch_files.features(cut="conv1_1") | torch_files.netvlad(64, clusters=2)
    state |= {"WPCA.0.weight": torch_files.drawn(2, 128, 1, 1), "WPCA.0.bias": torch_files.drawn(2)}
    content = torch_files.training(state)
    config, arrays = keras.mobilenet_v1()
    save_file(dict(state), place("safetensors") / "net.safetensors")
    parts = place("json")
    (parts / "net.json").write_text(config, encoding="utf-8")
    keras.write(parts / "net.h5", None, arrays)
    return {
        "pth": torch_files.saved(place("pth") / "net.pth.tar", content),
        "old-pth": torch_files.saved(place("old-pth") / "net.pth.tar", content, old=True),
        "safetensors": folder / "safetensors" / "net.safetensors",
        "h5": keras.write(place("h5") / "net.h5", config, arrays),
        "json": parts / "net.json",
        "index": write_bundle(place("index") / "net", tensorflow.network(("1_1",), dims=2)),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(fuzz.main(int(sys.argv[1]), list(seeds(Path(made)).values())))
