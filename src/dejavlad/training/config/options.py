"""Every option of a training, with its default, as one flat value: from TOML, changed by ``key=value``.

The names in brackets are those of NetVLAD's ``trainWeakly.m``, whose defaults these are. Options are read
from a recipe (`dejavlad.training.config.recipes`) or a file of the same form.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from dejavlad.errors import InputError, MalformedFileError, UnknownNameError
from dejavlad.guarded.fields import settle_options
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.guarded.toml_file import parse_toml
from dejavlad.images import parse_resize
from dejavlad.training.config.method import parse_method
from dejavlad.training.config.option import option, rule_of
from dejavlad.training.config.trainable import parse_trainable

RECALL_AT: Final = (1, 2, 3, 4, 5, *range(10, 101, 5))
MINED: Final = {"mining": ("all", "subcache")}
ALL: Final = {"mining": ("all",)}
SUBCACHE: Final = {"mining": ("subcache",)}
PLACES: Final = {"mining": ("places",)}
CLASSES: Final = {"mining": ("classes",)}
SQUARES: Final = {"mining": ("places", "classes"), "places": ("ground",)}
FOCAL: Final = {"classes": ("focal",)}
HEADING: Final = {"classes": ("heading",)}
CHOSEN: Final = {**FOCAL, "focal_views": ("choose",)}
KEPT: Final = {"frozen_maps": ("auto", "memory", "disk")}
STEPS: Final = {"lr_schedule": ("steps",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a descriptor is learnt from photos and their rough positions.

    Raises:
        InputError: a value that cannot be.
    """

    network: str = option("vgg16", fixed=True)
    """The backbone to start from, where no model is given: a name that `dejavlad models` lists, or
    ``caffenet``, whose weights must be given as a file. (netID, layerName)"""
    method: str = option("vlad_preL2_intra", fixed=True)
    """The pooling: ``vlad``, ``vladv2`` or ``vlad_tied`` (alpha learnt, assignment tied to the centres), each
    with ``_preL2`` and ``_intra`` or without; ``max``, ``avg``, ``gem``, with ``_preL2`` or without;
    ``gem_linear`` (a linear layer behind), the same; ``given`` keeps the model's own."""
    train_from: str = option("", fixed=True)
    """The first layer that learns, as ``conv5_1`` or ``features.24``; empty: all do. (backPropToLayer)"""
    trainable: str = option("", fixed=True)
    """What learns, instead of `train_from`: ``head``; ``blocks:N``, the head and the last N blocks of a
    transformer; ``adapters`` (``adapters:RANK``), the head and low-rank changes of all blocks' attention,
    which are added to the weights in the models that are written; ``all``."""
    fixed_layers: tuple[str, ...] = option((), fixed=True)
    """Layers after it that do not learn either; ``backbone`` stands for all of it, ``aggregation`` for the
    pooling. (fixLayers)"""
    batch_norm: Literal["fixed", "learnt"] = option("fixed", fixed=True)
    """``fixed``: batch norms keep their statistics; ``learnt``: where they learn they use those of the photos
    that go through the network together."""
    clusters: int = option(64, at_least=1, fixed=True)
    """Of ``vlad``, where they are not learnt yet."""
    dims: int = option(512, at_least=1, fixed=True)
    """Numbers of a descriptor, of ``gem_linear``."""
    resize: str = option("", fixed=True)
    """What photos are resized to, as ``480x640`` or ``longest:640``; empty: as the model does it."""
    cluster_photos: Literal["random", "first"] = option("random", fixed=True)
    """Where the clusters are not learnt yet: from photos drawn, or from the first 500, as the original."""

    positive_radius: float = option(10.0, above=0, fixed=True)
    """Metres; photos at most so far from the query may be its positive. (nonTrivPosDistSqThr, its root)"""
    trivial_radius: float = option(1.0, fixed=True)
    """Metres; photos so near are no positives: they show too much the same. Negative: there are none such."""
    negative_radius: float = option(25.0, fixed=True)
    """Metres; photos farther than that are negatives. (posDistThr)"""
    other_time: bool = option(True, fixed=True)
    """Where photos have times: a positive was taken at another time than the query (Tokyo Time Machine)."""

    batch_size: int = option(4, at_least=1, fixed=True)
    """Queries, each with its positive and negatives, of one step; or places; or classes, with one photo of
    each. (batchSize)"""
    query_order: Literal["random", "given", "weighted"] = option("random", goes_with=MINED, fixed=True)
    """Order of the queries in an epoch, drawn anew for each or as listed; ``weighted``: as many are drawn
    with replacement, see `weigh_tags`."""
    weigh_tags: tuple[str, ...] = option((), goes_with={"query_order": ("weighted",)}, fixed=True)
    """Of queries drawn with replacement, one tagged so, as ``night``, weighs more by the number of all
    queries over that of those tagged so."""
    mining: Literal["all", "subcache", "places", "classes"] = option("all", fixed=True)
    """``all``: all photos are described for it; ``subcache``: for some queries at a time, these, their
    positives and some negatives (Mapillary's); ``places``: batches of photos of the same places, which are
    compared with each other as they are; ``classes``: photos are sorted into classes, which a layer of their
    own learns to tell apart, one group of classes that lie apart after the other (CosPlace, EigenPlaces)."""
    cached_queries: int = option(1000, at_least=1, goes_with=SUBCACHE, fixed=True)
    """Queries of a subcache, described together; a multiple of `batch_size`."""
    cached_negatives: int = option(1000, at_least=1, goes_with=SUBCACHE, fixed=True)
    """Drawn for a subcache; those near one of its queries are left out."""
    places: Literal["ground", "groups"] = option("ground", goes_with=PLACES, fixed=True)
    """What a place is: photos of one square on the ground, or those that the dataset groups. Of batches of
    places, `batch_size` is their number."""
    place_size: float = option(10.0, above=0, goes_with=SQUARES, fixed=True)
    """Side of the squares, in metres; of classes too. (CosPlace's M)"""
    place_sector: float = option(0.0, at_least=0, at_most=360, goes_with=SQUARES, fixed=True)
    """Degrees into which a square is divided by the photos' headings; 0: it is not. (CosPlace's alpha)"""
    photos_per_place: int = option(4, at_least=2, goes_with=PLACES, fixed=True)
    """Photos that are drawn of a place."""
    classes: Literal["heading", "focal"] = option("heading", goes_with=CLASSES, fixed=True)
    """What a class is: ``heading``: photos of one square that look the same way (CosPlace); ``focal``: photos
    of one square that look at the same point, once at one beside the way they were taken along (lateral), and
    once at one ahead on it (frontal) (EigenPlaces)."""
    group_squares: int = option(5, at_least=1, goes_with=CLASSES, fixed=True)
    """Classes of one group lie so many squares from each other, east and north. (N)"""
    group_sectors: int = option(2, at_least=1, goes_with={**CLASSES, **HEADING}, fixed=True)
    """Classes of one group and square lie so many sectors of headings from each other; the sectors of a
    square must be a multiple of it. (L)"""
    groups: int = option(8, at_least=0, goes_with=CLASSES, fixed=True)
    """At most so many groups, those with most classes, take turns, one an epoch; 0: all."""
    class_photos: int = option(10, at_least=1, goes_with=CLASSES, fixed=True)
    """Photos of a class, at least; smaller ones are left out."""
    focal_distance: float = option(10.0, above=0, goes_with=FOCAL, fixed=True)
    """Metres from the middle of a square's photos to the point that they look at."""
    focal_tolerance: float = option(30.0, at_least=0, at_most=180, goes_with=CHOSEN, fixed=True)
    """Degrees by which a photo may look past that point."""
    focal_views: Literal["choose", "cut"] = option("choose", goes_with=FOCAL, fixed=True)
    """``choose``: classes are the photos that look at the point, by their headings; ``cut``: photos are
    panoramas (twice as wide as high, or wider: the middle of such), of which a view is cut for each point."""
    steps_per_epoch: int = option(10_000, at_least=1, goes_with=CLASSES, fixed=True)
    """Steps of an epoch of classes."""
    negatives: int | Literal["all"] = 1000
    """Negatives drawn for a query each time, or all there are. (nNegChoice)"""
    negatives_used: int = option(10, at_least=1, goes_with=MINED)
    """At most so many of them, the nearest that violate the margin, are in a tuple. (nNegCap)"""
    negatives_remembered: int = option(10, at_least=0, goes_with=ALL)
    """So many, the nearest, are among those drawn the next time. (nNegCache)"""
    exclude_very_hard: bool = option(False, goes_with=MINED)
    """Leave out negatives that are nearer than the positive. (excludeVeryHard)"""
    refresh_every: int = option(1000, at_least=1, goes_with=ALL)
    """Queries after which all photos are described anew. (compFeatsFrequency)"""
    refresh_slows: bool = option(True, goes_with=ALL)
    """When the learning rate falls, `refresh_every` grows by the same factor."""

    loss: Literal["squared", "plain", "multi_similarity", "large_margin"] = "squared"
    """``squared``: hinges on squared distances, over the violating triplets, divided by their number;
    ``plain``: hinges on distances, averaged over all triplets; ``multi_similarity``: of batches of places;
    ``large_margin``: of classes, by cosine."""
    margin: float = option(0.1, above=0, goes_with={"mining": ("all", "subcache", "classes")})
    """Margin of the hinge: by how much a negative must be farther than the positive, on descriptors of length
    1, in squared distance (``squared``) or distance (``plain``). With ``large_margin``: by how much a photo's
    cosine with its own class must be greater. (margin)"""
    margin_scale: float = option(30.0, above=0, goes_with=CLASSES)
    """Of ``large_margin``: what the cosines are multiplied by. (s)"""
    ms_alpha: float = option(1.0, above=0, goes_with=PLACES)
    """Multi-similarity: how sharply the least alike positives outweigh the others."""
    ms_beta: float = option(50.0, above=0, goes_with=PLACES)
    """Multi-similarity: how sharply the most alike negatives outweigh the others."""
    ms_base: float = option(0.0, goes_with=PLACES)
    """Multi-similarity: similarity (cosine) that parts positives from negatives."""
    ms_epsilon: float = option(0.1, goes_with=PLACES)
    """Multi-similarity: a negative counts that is at most so much less alike than the least alike positive,
    and a positive that is at most so much more alike than the most alike negative."""

    optimizer: Literal["sgd", "adam", "adamw"] = option("sgd", fixed=True)
    """The optimiser, as PyTorch has it."""
    learning_rate: float = option(1e-4, above=0)
    """Learning rate at the start. (learningRate)"""
    classifier_rate: float = option(0.01, above=0, goes_with=CLASSES)
    """Learning rate of the layer that tells classes apart; it has an optimiser of its own, Adam."""
    lr_schedule: Literal["steps", "linear"] = "steps"
    """``steps``: it falls every so many epochs; ``linear``: with each batch, to nothing at the end."""
    lr_warmup: int = option(0, at_least=0)
    """Batches over which it first rises, linearly."""
    lr_down_every: int = option(5, at_least=1, goes_with=STEPS)
    """Epochs after which the learning rate falls. (lrDownFreq)"""
    lr_down_factor: float = option(2.0, above=0, goes_with=STEPS)
    """What the learning rate is divided by when it falls. (lrDownFactor)"""
    weight_decay: float = option(1e-3, at_least=0)
    """Of all that learns, biases too. (weightDecay)"""
    momentum: float = option(0.9, at_least=0, goes_with={"optimizer": ("sgd",)})
    """Momentum of SGD. (momentum)"""
    epochs: int = option(30, at_least=1)
    """Times that all queries, or places, are gone through. (nEpoch)"""
    patience: int = option(0, at_least=0)
    """Stop after so many epochs that were not the best on the validation set (by recall@5, and where that is
    the same, by the others); 0: never."""

    jitter_flip: bool = False
    """Mirror each tuple, all its photos together, with probability a half. (jitterFlip)"""
    jitter_scales: tuple[float, ...] = option((), above=0)
    """Resize the photos of each tuple, all together, by one of these factors of the first photo's shorter
    side. (jitterScale)"""
    augment_crop: float = option(1.0, above=0, at_most=1)
    """Crop each photo at random, to no less than this share of its area, and resize it back; 1: do not."""
    augment_rotate: float = option(0.0, at_least=0, at_most=180)
    """Turn each photo by at most so many degrees, either way."""
    augment_flip: float = option(0.0, at_least=0, at_most=1)
    """Mirror each photo with this probability, whatever the others of its tuple do (unlike `jitter_flip`)."""
    augment_colour: float = option(0.0, at_least=0, at_most=1)
    """Change brightness, contrast and saturation of each photo by at most this share, its hue by a tenth."""
    augment_hue: float = option(0.0, at_least=0, at_most=0.5)
    """Change the hue of each photo by at most this share of the whole circle instead."""

    test_before: bool = True
    """Test before the first epoch too. (test0)"""
    test_every: int = option(1, at_least=1)
    """Epochs between tests on the validation set; the last is always tested. (epochTestFrequency)"""
    test_queries: int = option(1000, at_least=0)
    """Queries that recall is taken over, drawn once; 0: all. (nTestSample)"""
    rank_queries: int = option(5000, at_least=0)
    """The same for the ranking loss. (nTestRankSample)"""
    recall_at: tuple[int, ...] = option(RECALL_AT, fixed=True)
    """The N of recall@N, ascending from 1. (recallNs)"""
    save_every: int = option(2000, at_least=0)
    """Queries between checkpoints within an epoch; 0: only at its end. (saveFrequency)"""

    seed: int = option(43, at_least=0, fixed=True)
    """Of all that is drawn; what is drawn depends on it and on epoch, batch and query alone."""
    precision: Literal["fp32", "bf16", "fp64"] = option("fp32", fixed=True)
    """Of the arithmetic. bf16: of the backbone, mixed; fp64 is for comparisons."""
    describe_batch: int = option(10, at_least=1, fixed=True)
    """Photos that are described together. (computeBatchSize)"""
    photos_at_once: int = option(64, at_least=1)
    """Photos whose activations are held for the gradient at once; a step with more goes through the network
    twice, in parts, and gives the same."""
    workers: int = option(4, at_least=0)
    """Threads that decode photos. (numThreads)"""
    frozen_maps: Literal["auto", "memory", "disk", "off"] = "auto"
    """Where the maps below the first layer that learns are kept, so that they are computed once; ``auto``: in
    memory or on disk as `frozen_maps_gb` allows, else not."""
    frozen_maps_gb: float = option(8.0, above=0, goes_with={"frozen_maps": ("auto", "memory")})
    """Gigabytes that they may take in memory; on disk a tenth of what is free stays free."""
    frozen_maps_dtype: Literal["float32", "float16", "int16"] = option("float32", goes_with=KEPT, fixed=True)
    """How they are kept; float16 takes half, and so does int16: even steps within each channel, closer."""
    info: str = ""
    """Free text, kept with the run. (info)"""

    parity: bool = option(False, fixed=True)
    """All quirks of the original, which are:"""
    quirk_drop_remainder: bool = option(False, goes_with=MINED, fixed=True)
    """Queries that do not fill a last batch are left out of an epoch."""
    quirk_lr_every_one: bool = option(False, goes_with=STEPS)
    """With ``lr_down_every = 1`` the learning rate never falls."""
    quirk_loss_of_all: bool = option(False, goes_with=MINED)
    """The loss that is noted counts all negatives of a tuple, also those that `exclude_very_hard` leaves
    out."""
    quirk_momentum_lost: bool = False
    """A run that is resumed at an epoch's start begins it without momentum."""
    quirk_inverted_violation: bool = option(False, goes_with=SUBCACHE, fixed=True)
    """With a subcache: similarities are taken for distances where violation is tested, so that nearly all
    negatives pass, and a query needs more of them than it uses (Mapillary's)."""

    def __post_init__(self) -> None:
        settle_options(self)
        for described in fields(self):
            rule_of(described).check_range(described.name, getattr(self, described.name))
        parse_method(self.method)
        parse_trainable(self.trainable)
        if self.resize:
            parse_resize(self.resize)
        self._check_numbers()
        self._check_pairs()

    def _check_numbers(self) -> None:
        """Refuse numbers that no single range describes."""
        if isinstance(self.negatives, int) and self.negatives < 1:
            raise InputError(f"negatives must be at least 1, or 'all'; given {self.negatives}")
        if not self.trivial_radius < self.positive_radius <= self.negative_radius:
            raise InputError(
                f"the radii must be trivial < positive <= negative; given {self.trivial_radius}, "
                f"{self.positive_radius} and {self.negative_radius} metres"
            )
        ascending = sorted(set(self.recall_at))
        if not ascending or ascending[0] < 1 or list(self.recall_at) != ascending:
            raise InputError(f"recall_at must be ascending numbers from 1; given {list(self.recall_at)}")

    def _check_pairs(self) -> None:
        """Refuse options that contradict each other."""
        for loss, mining in (("multi_similarity", "places"), ("large_margin", "classes")):
            if (self.loss == loss) != (self.mining == mining):
                raise InputError(
                    f"loss = {loss!r} and mining = {mining!r} go together; given {self.loss!r} and "
                    f"{self.mining!r}"
                )
        if self.trainable and self.train_from:
            raise InputError(
                f"give trainable or train_from, not both; given {self.trainable!r} and {self.train_from!r}"
            )
        self._check_sectors()
        if self.query_order == "weighted" and not self.weigh_tags:
            raise InputError("query_order = 'weighted' needs weigh_tags, e.g. ['night', 'sideways']")
        if self.mining == "subcache" and self.cached_queries % self.batch_size:
            raise InputError(
                f"cached_queries must be a multiple of batch_size; given {self.cached_queries} and "
                f"{self.batch_size}"
            )
        most = self.step_photos
        if self.batch_norm == "learnt" and self.photos_at_once < most:
            raise InputError(
                f"batch_norm = 'learnt' needs the photos of a step together: set photos_at_once to {most} at "
                f"least; given {self.photos_at_once}"
            )
        if self.loss == "plain" and self.exclude_very_hard:
            raise InputError("exclude_very_hard goes with loss = 'squared'")

    def _check_sectors(self) -> None:
        """Refuse sectors that would bring neighbours across north into one group."""
        if self.mining != "classes" or self.classes != "heading" or not self.place_sector:
            return
        sectors = 360 / self.place_sector
        if abs(sectors - round(sectors)) > 1e-9 or round(sectors) % self.group_sectors:
            raise InputError(
                "place_sector must divide 360 degrees into a multiple of group_sectors; "
                f"{self.place_sector:g} degrees make {sectors:g} sectors, and group_sectors is "
                f"{self.group_sectors}"
            )

    @property
    def mines(self) -> bool:
        """Whether tuples of queries are mined; else batches are photos of places or classes as they are."""
        return self.mining in ("all", "subcache")

    @property
    def step_photos(self) -> int:
        """Photos of one step, at most."""
        if self.mining == "classes":
            return self.batch_size * (2 if self.classes == "focal" else 1)
        return self.batch_size * (
            self.photos_per_place if self.mining == "places" else 2 + self.negatives_used
        )

    def quirk(self, name: str) -> bool:
        """Whether the quirk of the option ``quirk_NAME`` is wanted: by itself, or by `parity`."""
        return self.parity or bool(getattr(self, f"quirk_{name}"))

    @property
    def jitters(self) -> bool:
        """Whether photos are changed before they are learnt from."""
        return self.jitter_flip or bool(self.jitter_scales) or self.augments

    @property
    def augments(self) -> bool:
        """Whether each photo is changed by itself."""
        changed = self.augment_rotate + self.augment_flip + self.augment_colour + self.augment_hue
        return self.augment_crop < 1 or changed > 0

    def with_settings(self, settings: Iterable[str]) -> Self:
        """With changes as the command writes them: ``margin=0.3``, ``negatives=all``, ``recall_at=[1,5]``.

        Raises:
            InputError: not ``key=value``, a value that cannot be, or an option that has no effect beside the
                others.
            UnknownNameError: no such option.
        """
        given: dict[str, Any] = {}
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise InputError(f"an option is set as key=value; given {setting!r}")
            try:
                given[key.strip()] = parse_toml(f"value = {text}")["value"]
            except MalformedFileError:
                given[key.strip()] = text.strip()  # a bare word
        made = self._replaced(given)
        made._refuse_without_effect(given)
        return made

    def changed(self, given: Mapping[str, Any], *, deliberate: Iterable[str] | None = None) -> Self:
        """With other values of some options.

        Args:
            given: option -> value.
            deliberate: those of them chosen for this training, which must have an effect where they
                are not the default; all, unless given. Others may come from a recipe that it builds on.

        Raises:
            InputError: a value that cannot be, or a deliberate one that has no effect beside the others.
            UnknownNameError: no such option.
        """
        made, defaults = self._replaced(given), type(self)()
        names = given if deliberate is None else deliberate
        made._refuse_without_effect(name for name in names if getattr(made, name) != getattr(defaults, name))
        return made

    def _replaced(self, given: Mapping[str, Any]) -> Self:
        """As `changed`, whether or not the options have an effect."""
        known = [described.name for described in fields(self)]
        for name in given:
            if name not in known:
                raise UnknownNameError("training option", name, known)
        return replace(self, **given)

    def _refuse_without_effect(self, names: Iterable[str]) -> None:
        """Refuse options that were set on purpose and have no effect, see `Rule.check_effect`."""
        described = {option.name: option for option in fields(self)}
        parsed = parse_method(self.method)
        sizes = {} if parsed is None else parsed[1]
        for name in names:
            rule_of(described[name]).check_effect(name, self)
            if name in ("clusters", "dims") and name not in sizes:
                methods = "vlad, vladv2 and vlad_tied" if name == "clusters" else "gem_linear"
                raise InputError(
                    f"{name} = {getattr(self, name)} has no effect on training with method = "
                    f"{self.method!r}; it goes with {methods}. Leave it out"
                )

    @classmethod
    def from_toml(cls, text: str, source: str = "the configuration") -> Self:
        """What `to_toml` wrote, or part of it.

        Raises:
            InputError: not TOML, or a value that cannot be.
            UnknownNameError: no such option.
        """
        try:
            return cls()._replaced(parse_toml(text))  # also of older runs, which may set what has no effect
        except MalformedFileError as error:
            raise InputError(f"{source} cannot be used: {error}") from None

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Options from a TOML file.

        Raises:
            InputError: it cannot be read, or what `from_toml` refuses.
        """
        try:
            return cls.from_toml(read_utf8(path), str(path))
        except (OSError, MalformedFileError) as error:
            raise InputError(f"options cannot be read from {str(path)!r}: {error}") from None

    def to_toml(self) -> str:
        """All options as TOML, one on each line."""
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.to_dict().items())

    def to_dict(self) -> dict[str, Any]:
        """Option -> value, of all options, in plain values (lists for tuples)."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def changes_from(self, before: TrainConfig) -> dict[str, tuple[Any, Any]]:
        """Option -> (before, now), for what differs when a run is resumed.

        Raises:
            InputError: an option differs that a run keeps from its beginning.
        """
        old, new = before.to_dict(), self.to_dict()
        changed = {key: (old[key], new[key]) for key in new if old[key] != new[key]}
        refused = [
            "{} was {!r}, now {!r}".format(option.name, *changed[option.name])
            for option in fields(self)
            if option.name in changed and rule_of(option).fixed
        ]
        if refused:
            raise InputError(
                f"a run cannot be resumed with another {'; '.join(refused)}. Give what it began with, or "
                "another --out"
            )
        return changed
