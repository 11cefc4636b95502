"""Configurations of Patch-NetVLAD, with the values of its shipped files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dejavlad.errors import InputError
from dejavlad.places.patch_ini import read_ini

Sections = dict[str, dict[str, str]]

SHIPPED: dict[str, tuple[str, str, str, str, str]] = {
    # matcher, patchWeights2Use, num_pcs, patch_sizes, strides
    "performance": ("RANSAC", "0.45,0.15,0.4", "4096", "2,5,8", "1,1,1"),
    "speed": ("spatialApproximator", "1", "512", "5", "1"),
    "storage": ("spatialApproximator", "1", "128", "5", "1"),
}


def shipped(name: str) -> Sections:
    resize = {"imageresizeW": "640", "imageresizeH": "480"}
    common = {"pooling": "patchnetvlad", "resumePath": "./pretrained_models/mapillary_WPCA", "threads": "0"}
    extract = {"batchsize": "5", "cacheBatchSize": "5", **resize}
    if name == "netvlad_extract":
        return {
            "feature_extract": extract,
            "global_params": {**common, "pooling": "netvlad", "nGPU": "1", "num_pcs": "512"},
        }
    matcher, weights, dims, sizes, strides = SHIPPED[name]
    return {
        "feature_extract": extract,
        "feature_match": {
            "cacheBatchSize": "5",
            "pred_input_path": "None",
            "matcher": matcher,
            "n_values_all": "1,5,10,20,50,100",
            "patchWeights2Use": weights,
            "dataset_name": "NA",
            **resize,
        },
        "global_params": {**common, "nGPU": "1", "num_pcs": dims, "patch_sizes": sizes, "strides": strides},
    }


def write(path: Path, sections: Sections) -> Path:
    text = "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for section, entries in sections.items()
    )
    path.write_text(text, encoding="utf-8")
    return path


def changed(section: str, base: str = "performance", **values: str | None) -> Sections:
    sections = shipped(base)
    for key, value in values.items():
        entries = {k: v for k, v in sections[section].items() if k.lower() != key.lower()}
        sections[section] = entries if value is None else {**entries, key: value}
    return sections


@pytest.mark.parametrize(
    ("name", "want"),
    [
        (
            "performance",
            {
                "matcher": "ransac",
                "sizes": (2, 5, 8),
                "strides": (1, 1, 1),
                "weights": (0.45, 0.15, 0.4),
                "dims": 4096,
            },
        ),
        ("speed", {"matcher": "rapid", "sizes": (5,), "strides": (1,), "weights": (1.0,), "dims": 512}),
        ("storage", {"matcher": "rapid", "sizes": (5,), "strides": (1,), "weights": (1.0,), "dims": 128}),
        (
            "netvlad_extract",
            {
                "matcher": None,
                "sizes": (),
                "strides": (),
                "weights": (),
                "dims": 512,
                "pooling": "netvlad",
            },
        ),
    ],
)
def test_shipped(tmp_path: Path, name: str, want: dict[str, Any]) -> None:
    assert read_ini(write(tmp_path / f"{name}.ini", shipped(name))) == {
        "resize": "480x640",
        "depth": 100,
        "recall_at": (1, 5, 10, 20, 50, 100),
        "pred_input_path": None,
        "resumepath": "./pretrained_models/mapillary_WPCA",
        "pooling": "patchnetvlad",
        "vladv2": False,
        **want,
    }


def test_keys_in_any_case_and_users_values(tmp_path: Path) -> None:
    path = tmp_path / "mine.ini"
    path.write_text(
        "; mine\r\n[Feature_Extract]\r\nIMAGERESIZEW=-1\r\nimageresizeh=480\r\n"
        "[feature_match]\r\nMatcher: ransac\r\nPATCHWEIGHTS2USE = 1, -.5\r\nn_values_all = 20 , 1,1\r\n"
        "pred_input_path = 50%/p.npy\r\nimageresizew=0\r\nimageresizeh=7\r\n"
        "[GLOBAL_PARAMS]\r\nPatch_Sizes = 3, 4\r\nstrides= 2,1\r\nnum_pcs=0\r\nvladv2 = yes\r\n",
        encoding="utf-8-sig",
        newline="",
    )
    assert read_ini(path) == {
        "matcher": "ransac",
        "sizes": (3, 4),
        "strides": (2, 1),
        "weights": (1.0, -0.5),
        "dims": None,
        "resize": "none",
        "depth": 20,
        "recall_at": (1, 20),
        "pred_input_path": "50%/p.npy",
        "resumepath": None,
        "pooling": "patchnetvlad",
        "vladv2": True,
    }


def test_what_may_be_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "short.ini",
        {
            "feature_extract": {},
            "feature_match": {"matcher": "RANSAC", "patchweights2use": "1,1"},
            "global_params": {"patch_sizes": "2,5", "num_pcs": "512"},
        },
    )
    values = read_ini(path)
    assert (values["strides"], values["resize"], values["depth"]) == ((1, 1), "480x640", 100)
    assert values["pooling"] == "patchnetvlad"
    assert values["pred_input_path"] is None and values["resumepath"] is None


GLOBAL, MATCH, EXTRACT = "global_params", "feature_match", "feature_extract"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            changed(GLOBAL, pooling="gem"),
            r"\[global_params\] pooling = 'gem': valid are patchnetvlad, netvlad",
        ),
        (changed(GLOBAL, num_pcs="-1"), r"\[global_params\] num_pcs = '-1': valid are whole numbers of 0"),
        (changed(GLOBAL, num_pcs=None), r"section \[global_params\] has no num_pcs"),
        (changed(GLOBAL, patch_sizes=None), r"section \[global_params\] has no patch_sizes"),
        (changed(GLOBAL, patch_sizes="2,,8"), r"patch_sizes = '2,,8': .* 1 or more, with commas between"),
        (changed(GLOBAL, patch_sizes="0,5,8"), r"patch_sizes = '0,5,8': "),
        (changed(GLOBAL, strides="1,1"), r"3 patch_sizes \(2,5,8\) but 2 strides \(1,1\); give one a size"),
        (changed(GLOBAL, patch_sizes="2,5", strides="1,1"), r"2 patch_sizes \(2,5\) but 3 patchweights2use"),
        (changed(GLOBAL, vladv2="maybe"), r"vladv2 = 'maybe': valid are True and False"),
        (changed(MATCH, matcher="SIFT"), r"matcher = 'SIFT': valid are RANSAC, spatialApproximator"),
        (changed(MATCH, matcher=None), r"section \[feature_match\] has no matcher"),
        (
            changed(MATCH, patchWeights2Use="1,2,nan"),
            r"patchweights2use = '1,2,nan': valid are finite numbers",
        ),
        (changed(MATCH, n_values_all="0,5"), r"n_values_all = '0,5': "),
        (changed(MATCH, imageresizeW="320"), r"480x640 \(height x width\) but \[feature_match\] to 480x320"),
        (changed(MATCH, imageresizeW=None), r"\[feature_match\] has one of imageresizew and imageresizeh"),
        (
            changed(EXTRACT, imageresizeH="tall"),
            r"\[feature_extract\] imageresizeh = 'tall': valid are whole",
        ),
        (
            {k: v for k, v in shipped("speed").items() if k != MATCH},
            r"has no section \[feature_match\] \(it has",
        ),
        ({k: v for k, v in shipped("speed").items() if k != EXTRACT}, r"has no section \[feature_extract\]"),
        ({k: v for k, v in shipped("speed").items() if k != GLOBAL}, r"has no section \[global_params\]"),
        ({"train": {}, GLOBAL: {"pooling": "netvlad"}}, r"it is a configuration of training"),
        ({}, r"\(it has none\)"),
    ],
)
def test_bad_values(tmp_path: Path, sections: Sections, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_ini(write(tmp_path / "bad.ini", sections))
    assert "bad.ini" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"num_pcs = 3", b"[a]\nx=1\nx=2\n", b"[a]\n[a]\n", b"\xff\x00", b"[a\nb"]
)
def test_bad_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.ini"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.ini") as caught:
        read_ini(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_ini(tmp_path / "none.ini")
