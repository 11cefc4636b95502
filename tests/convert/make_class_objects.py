"""Makes tests/golden/class_objects_*.mat, networks whose own layers are MATLAB class objects, with mat-io.

Run once, where mat-io (1.0.2) is installed: ``python tests/convert/make_class_objects.py``; the tests only
read the files.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matlab import conv, head, network

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [("vlad_preL2_intra", "v7"), ("vlad_preL2_intra", "v7.3"), ("vladv2", "v7"), ("max", "v7.3")]


def made(method: str) -> dict[str, Any]:
    """A small network: two convolutions and what NetVLAD's code adds."""
    random = np.random.default_rng(11)

    def drawn(*shape: int) -> Any:
        return (random.normal(size=shape) * 0.3).astype(np.float32)

    layers = [
        conv("conv1", drawn(3, 3, 3, 6), drawn(1, 6), stride=2, pad=1),
        {"type": "relu", "name": "relu1", "leak": 0.0},
        conv("conv5", drawn(3, 3, 6, 5), drawn(1, 5), pad=1),
        *head(random, 5, method, clusters=4, dims=3),
    ]
    return network(layers)


def _class(layer: dict[str, Any]) -> str:
    if layer["name"] == "vlad:core":
        return "layerVLAD" if len(layer["weights"]) == 2 else "layerVLADv2"
    return "layerTotalMaxPool" if layer["name"] == "max:core" else "layerWholeL2Normalize"


def main() -> None:
    import matio
    from matio.utils import MatlabOpaque

    def with_class_objects(value: Any) -> Any:
        if isinstance(value, list):
            cell = np.empty((1, len(value)), object)
            cell[0, :] = [with_class_objects(one) for one in value]
            return cell
        if isinstance(value, dict):
            fields = {key: with_class_objects(one) for key, one in value.items()}
            if value.get("type") != "custom":
                return fields
            opaque = MatlabOpaque(properties=fields, classname=_class(value))
            return opaque
        return value

    for method, version in CASES:
        path = GOLDEN / f"class_objects_{method}_{version.replace('.', '')}.mat"
        packed = method == "vladv2"  # the other one is also damaged by tests, which packing would hide
        matio.save_to_mat(
            path, {"net": with_class_objects(made(method))}, version=version, do_compression=packed
        )


if __name__ == "__main__":
    main()
