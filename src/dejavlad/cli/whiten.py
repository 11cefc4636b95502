"""`dejavlad whiten`: principal components learnt from photos, as a model's last layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dejavlad.cli.options import ModelOptions
from dejavlad.cli.sources import ListOptions
from dejavlad.cli.terminal import Flag, Output
from dejavlad.failures import failures_dict


def whiten(
    model: str,
    photos: str,
    /,
    *,
    out: Path,
    no_whiten: Flag = False,
    sources: ListOptions = ListOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Learn principal components and whitening from photos, and write the model with them.

    A model that must learn its clusters learns them from these photos too; a whitening that the model has is
    replaced. Of many photos, 10,000 are drawn.

    Examples:

        dejavlad whiten run@best photos/ --dims 4096 --out model
        dejavlad whiten vgg16-netvlad town/train:database --dims 128 --no-whiten --out model

    Parameters
    ----------
    model
        A model's name, folder, or training run.
    photos
        What to learn from: a folder, a list, a video, or a dataset part. Best of another place than where the
        model is tested.
    out
        The model folder to make. `--dims` (default: all that the photos can tell) says how many are kept.
    no_whiten
        Keep principal components as they are: shorter, not whitened.
    """
    dims, listed = options.one_dims, sources.listed(photos)
    from dejavlad.fitting import learn_whitening
    from dejavlad.fitting.initialise import initialise
    from dejavlad.model import save_model

    failed: dict[str, str] = {}
    with output.progress() as on_progress:
        describing = options.describing(on_progress)
        base = replace(options, dims=None).load(model, on_progress)
        if not base.fitted:
            base = initialise(base, listed, on_failed=failed.update, **describing)
        whitened = learn_whitening(
            base, listed, dims, whiten=not no_whiten, on_failed=failed.update, **describing
        )
    save_model(whitened, out)
    text = f"{whitened.name}: {base.aggregation.descriptor_size} to {whitened.descriptor_size} dims: {out}"
    summary = {
        "model": str(out),
        "name": whitened.name,
        "fingerprint": whitened.fingerprint,
        "dims": whitened.descriptor_size,
        "whitened": not no_whiten,
        "components": whitened.provenance.get("components"),
        **failures_dict(failed),
    }
    output.answer(summary, text)
    output.failures(failed)
