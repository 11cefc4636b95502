"""`dejavlad models`: which models there are; `download`, `import` and `verify`: those of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from dejavlad.cli.export import verify_export
from dejavlad.cli.options import ModelOptions
from dejavlad.cli.terminal import Flag, Output, table
from dejavlad.errors import DejavladError, InputError, UnknownNameError

if TYPE_CHECKING:
    from dejavlad.zoo import ModelEntry

app = App(
    name="models",
    help="""Names, descriptor size, where weights come from, licence, and whether they are here.

Example: `dejavlad models`, `dejavlad models megaloc`
""",
)


@app.default
def models(name: str | None = None, /, *, output: Output = Output()) -> None:
    """List them, or tell all of one.

    Parameters
    ----------
    name
        One of the list, to be told of in full: size, photos as it wants them, licences, address, how it was
        checked.
    """
    from dejavlad.zoo import list_models

    entries = list_models()
    if name is not None:
        chosen = next((entry for entry in entries if entry.name == name), None)
        if chosen is None:
            names = [entry.name for entry in entries]
            raise UnknownNameError("model", name, names, listed="`dejavlad models` lists the names")
        output.answer(chosen.to_dict(), _in_full(chosen))
        return
    rows = [
        (
            entry.name,
            entry.dims or "-",
            _where(entry),
            entry.trained_on,
            entry.licence,
            entry.what + " (batch-dependent)" * entry.batch_dependent,
        )
        for entry in entries
    ]
    output.answer(
        [entry.to_dict() for entry in entries],
        table(("name", "dims", "weights", "trained on", "licence", "what"), rows, right=(1,)),
    )


def _where(entry: ModelEntry) -> str:
    """Whether its weights are here."""
    if entry.here:
        return "here"
    return "by hand" if entry.by_hand else "to download"


def _in_full(entry: ModelEntry) -> str:
    """All that is known of a model, a line each."""
    from dejavlad.zoo.released import RELEASED

    released = RELEASED.get(entry.name)
    facts = {
        "what": entry.what,
        "dims": str(entry.dims or "as the backbone makes them"),
        "photos": entry.input,
        "trained on": entry.trained_on,
        "weights": _where(entry) + (f", {entry.size / 1e6:.0f} MB" if entry.size else ""),
        "address": entry.source,
        "licence of the weights": entry.licence,
        "licence of the code": entry.code_licence,
        "made of": str(released.parts()) if released is not None and released.parts is not None else "",
        "checked by": entry.checked,
        "batch-dependent": "yes: what it says of a photo depends on the photos beside it; maps of it "
        "are refused, and photos described one at a time, unless --batch-dependent is given"
        if entry.batch_dependent
        else "",
        "put its file at": str(released.path) if released is not None and not entry.here else "",
    }
    width = max(map(len, facts))
    return "\n".join([entry.name, *(f"  {key.ljust(width)}  {text}" for key, text in facts.items() if text)])


@app.command
def download(
    name: str,
    /,
    *,
    offline: Flag = False,
    output: Output = Output(),
) -> None:
    """Fetch a model's weights now rather than on first use; an interrupted download goes on.

    Example: `dejavlad models download vgg16-netvlad-pitts30k`

    Parameters
    ----------
    name
        One that `dejavlad models` lists.
    offline
        Only say which file belongs where.
    """
    from dejavlad.backbones import BACKBONES
    from dejavlad.zoo.listing import model_names

    if name not in (names := {*model_names(), *BACKBONES}):
        raise UnknownNameError("model", name, names, listed="`dejavlad models` lists the names")
    from dejavlad.backbones import fetch_weights
    from dejavlad.zoo.off_the_shelf import FROM_THE_MAP
    from dejavlad.zoo.released import RELEASED, fetch_released

    backbone = name.partition("-")[0].partition("@")[0]
    with output.progress() as on_progress:
        if name in RELEASED:
            released = RELEASED[name]
            path: Path | None = fetch_released(released, offline=offline or None, on_progress=on_progress)
            if released.backbone is not None:
                fetch_weights(released.backbone, offline=offline or None, on_progress=on_progress)
        else:
            if name in FROM_THE_MAP:
                backbone = FROM_THE_MAP[name].backbone.name
            path = fetch_weights(backbone, offline=offline or None, on_progress=on_progress)
    text = f"{name}: {path}" if path else f"{name} needs no weights"
    output.answer({"name": name, "weights": str(path) if path else None}, text)


def import_(src: Path, /, *, out: Path, name: str | None = None, output: Output = Output()) -> None:
    """A model folder from a checkpoint of the originals; what it is, is found out from its content.

    Example: `dejavlad import mapillary_WPCA4096.pth.tar --out patchnetvlad`

    Parameters
    ----------
    src
        A MatConvNet network (.mat), a PyTorch checkpoint (.pth, .pth.tar, .ckpt), a Keras network (.h5), a
        TensorFlow checkpoint (its prefix or folder).
    out
        The model folder to write.
    name
        What to call the model (default: after the file).
    """
    from dejavlad.convert import import_model

    model = import_model(src, name=name)
    from dejavlad.model import save_model

    folder = save_model(model, out)
    summary = {
        "model": str(folder),
        "name": model.name,
        "fingerprint": model.fingerprint,
        "dims": model.descriptor_size,
        "fitted": model.fitted,
        "spec": model.spec.to_dict(),
    }
    whitened = "not whitened" if model.whitening is None else "whitened"
    lines = [
        f"{model.name}: {model.source.name}, {model.spec.aggregation.name}, {whitened}, "
        f"{model.descriptor_size} dims: {folder}"
    ]
    if not model.fitted:
        lines.append("its clusters are learnt from the photos that it is first used on")
    output.answer(summary, "\n".join(lines))


def verify(
    model: str,
    reference: Path | None = None,
    /,
    *,
    alone: Flag = False,
    tolerance: float = 1e-5,
    photos: str | None = None,
    root: Path | None = None,
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Compare a model's activations with a reference, layer by layer; status 1 where they differ.

    Example: `dejavlad verify patchnetvlad activations.npz`, `dejavlad verify megaloc --alone`,
    `dejavlad verify megaloc megaloc.onnx`

    Parameters
    ----------
    model
        A model's name, its folder, or a checkpoint of the originals.
    reference
        A .mat or .npz with `input` and activations by the layers' names; or a file of ONNX exported from the
        model, whose answers are compared on this machine, and its certificate made anew.
    alone
        Instead: does a photo's descriptor depend on the photos described beside it? Status 1 where it does.
    tolerance
        On each number; relative to the layer's largest where that is above 1.
    photos
        With a file of ONNX: the photos on which answers are compared (default: made ones).
    root
        The folder that paths in a list of photos are relative to.
    """
    if reference is not None and reference.suffix.lower() == ".onnx" and not alone:
        verify_export(model, reference, photos, root, options, output)
        return
    if photos is not None:
        raise InputError("--photos goes with a file of ONNX")
    if alone == (reference is not None):
        raise InputError("give either a reference (.mat, .npz) to compare with, or --alone")
    if reference is None:
        _verify_alone(model, options, output)
        return
    with output.progress() as on_progress:
        opened = options.load(model, on_progress)
    from dejavlad.model.verify import verify as compare

    rows = compare(opened, reference, tolerance)
    layers = [
        {"layer": row.layer, "shape": list(row.shape), "difference": _finite(row.difference), "ok": row.ok}
        for row in rows
    ]
    cells = [
        (row.layer, "x".join(map(str, row.shape)), f"{row.difference:.1e}", "ok" if row.ok else "DIFFERS")
        for row in rows
    ]
    output.answer(layers, table(("layer", "shape", "difference", ""), cells, right=(2,)))
    wrong = [row.layer for row in rows if not row.ok]
    if wrong:
        raise DejavladError(f"{len(wrong)} of {len(rows)} layers differ, {wrong[0]} first")


def _verify_alone(model: str, options: ModelOptions, output: Output) -> None:
    from dejavlad.model.alone import batch_dependence

    with output.progress() as on_progress:
        opened = options.load(model, on_progress)
    rows = batch_dependence(opened)
    comparisons = [
        {"together": row.photos, "difference": row.difference, "cosine": row.cosine, "ok": row.ok}
        for row in rows
    ]
    cells = [
        (row.photos, f"{row.difference:.1e}", f"{row.cosine:.6f}", "ok" if row.ok else "DEPENDS")
        for row in rows
    ]
    output.answer(comparisons, table(("described", "difference", "least cosine", ""), cells, right=(1, 2)))
    if not all(row.ok for row in rows):
        raise DejavladError(
            f"{opened.name} is batch-dependent: its descriptor of a photo depends on the photos beside it"
        )


def _finite(value: float) -> float | None:
    """None for infinity, which JSON does not have."""
    return value if value < float("inf") else None
