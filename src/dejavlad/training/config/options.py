"""Every option of a training, with its default, as one flat value: from TOML, changed by ``key=value``.

The names in brackets are those of NetVLAD's ``trainWeakly.m``, whose defaults these are. Options are read
from a recipe (`dejavlad.training.config.recipes`) or a file of the same form.
"""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, Self, Union, get_args, get_origin, get_type_hints

from dejavlad.errors import InputError, MalformedFileError, UnknownNameError
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.guarded.toml_file import parse_toml
from dejavlad.images import parse_resize
from dejavlad.training.config.method import parse_method
from dejavlad.training.config.trainable import parse_trainable as check_trainable

RECALL_AT: Final = (1, 2, 3, 4, 5, *range(10, 101, 5))
FIXED: Final[Mapping[str, Any]] = {"resume": "refused"}
"""Of options that cannot change once a run has begun; all others hold from where it is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a descriptor is learnt from photos and their rough positions.

    Raises:
        InputError: a value that cannot be.
    """

    network: str = field(default="vgg16", metadata=FIXED)
    """The backbone to start from, where no model is given: a name that `dejavlad models` lists, or
    ``caffenet``, whose weights must be given as a file. (netID, layerName)"""
    method: str = field(default="vlad_preL2_intra", metadata=FIXED)
    """The pooling: ``vlad``, ``vladv2`` or ``vlad_tied`` (alpha learnt, assignment tied to the centres), each
    with ``_preL2`` and ``_intra`` or without; ``max``, ``avg``, ``gem``, with ``_preL2`` or without;
    ``gem_linear`` (a linear layer behind), the same; ``given`` keeps the model's own."""
    train_from: str = field(default="", metadata=FIXED)
    """The first layer that learns, as ``conv5_1`` or ``features.24``; empty: all do. (backPropToLayer)"""
    trainable: str = field(default="", metadata=FIXED)
    """What learns, instead of `train_from`: ``head``; ``blocks:N``, the head and the last N blocks of a
    transformer; ``adapters`` (``adapters:RANK``), the head and low-rank changes of all blocks' attention,
    which are added to the weights in the models that are written; ``all``."""
    fixed_layers: tuple[str, ...] = field(default=(), metadata=FIXED)
    """Layers after it that do not learn either; ``backbone`` stands for all of it, ``aggregation`` for the
    pooling. (fixLayers)"""
    batch_norm: Literal["fixed", "learnt"] = field(default="fixed", metadata=FIXED)
    """``fixed``: batch norms keep their statistics; ``learnt``: where they learn they use those of the photos
    that go through the network together."""
    clusters: int = field(default=64, metadata=FIXED)
    """Of ``vlad``, where they are not learnt yet."""
    dims: int = field(default=512, metadata=FIXED)
    """Numbers of a descriptor, of ``gem_linear``."""
    resize: str = field(default="", metadata=FIXED)
    """What photos are resized to, as ``480x640`` or ``longest:640``; empty: as the model does it."""
    cluster_photos: Literal["random", "first"] = field(default="random", metadata=FIXED)
    """Where the clusters are not learnt yet: from photos drawn, or from the first 500, as the original."""

    positive_radius: float = field(default=10.0, metadata=FIXED)
    """Metres; photos at most so far from the query may be its positive. (nonTrivPosDistSqThr, its root)"""
    trivial_radius: float = field(default=1.0, metadata=FIXED)
    """Metres; photos so near are no positives: they show too much the same. Negative: there are none such."""
    negative_radius: float = field(default=25.0, metadata=FIXED)
    """Metres; photos farther than that are negatives. (posDistThr)"""
    other_time: bool = field(default=True, metadata=FIXED)
    """Where photos have times: a positive was taken at another time than the query (Tokyo Time Machine)."""

    batch_size: int = field(default=4, metadata=FIXED)
    """Queries, each with its positive and negatives, of one step; or places; or classes, with one photo of
    each. (batchSize)"""
    query_order: Literal["random", "given", "weighted"] = field(default="random", metadata=FIXED)
    """Order of the queries in an epoch, drawn anew for each or as listed; ``weighted``: as many are drawn
    with replacement, see `weigh_tags`."""
    weigh_tags: tuple[str, ...] = field(default=(), metadata=FIXED)
    """Of queries drawn with replacement, one tagged so, as ``night``, weighs more by the number of all
    queries over that of those tagged so."""
    mining: Literal["all", "subcache", "places", "classes"] = field(default="all", metadata=FIXED)
    """``all``: all photos are described for it; ``subcache``: for some queries at a time, these, their
    positives and some negatives (Mapillary's); ``places``: batches of photos of the same places, which are
    compared with each other as they are; ``classes``: photos are sorted into classes, which a layer of their
    own learns to tell apart, one group of classes that lie apart after the other (CosPlace, EigenPlaces)."""
    cached_queries: int = field(default=1000, metadata=FIXED)
    """Queries of a subcache, described together; a multiple of `batch_size`."""
    cached_negatives: int = field(default=1000, metadata=FIXED)
    """Drawn for a subcache; those near one of its queries are left out."""
    places: Literal["ground", "groups"] = field(default="ground", metadata=FIXED)
    """What a place is: photos of one square on the ground, or those that the dataset groups. Of batches of
    places, `batch_size` is their number."""
    place_size: float = field(default=10.0, metadata=FIXED)
    """Side of the squares, in metres; of classes too. (CosPlace's M)"""
    place_sector: float = field(default=0.0, metadata=FIXED)
    """Degrees into which a square is divided by the photos' headings; 0: it is not. (CosPlace's alpha)"""
    photos_per_place: int = field(default=4, metadata=FIXED)
    """Photos that are drawn of a place, at most; at least two."""
    classes: Literal["heading", "focal"] = field(default="heading", metadata=FIXED)
    """What a class is: ``heading``: photos of one square that look the same way (CosPlace); ``focal``: photos
    of one square that look at the same point, once at one beside the way they were taken along (lateral), and
    once at one ahead on it (frontal) (EigenPlaces)."""
    group_squares: int = field(default=5, metadata=FIXED)
    """Classes of one group lie so many squares from each other, east and north. (N)"""
    group_sectors: int = field(default=2, metadata=FIXED)
    """Classes of one group and square lie so many sectors of headings from each other; the sectors of a
    square must be a multiple of it. (L)"""
    groups: int = field(default=8, metadata=FIXED)
    """At most so many groups, those with most classes, take turns, one an epoch; 0: all."""
    class_photos: int = field(default=10, metadata=FIXED)
    """Photos of a class, at least; smaller ones are left out."""
    focal_distance: float = field(default=10.0, metadata=FIXED)
    """Metres from the middle of a square's photos to the point that they look at."""
    focal_tolerance: float = field(default=30.0, metadata=FIXED)
    """Degrees by which a photo may look past that point, where photos are chosen."""
    focal_views: Literal["choose", "cut"] = field(default="choose", metadata=FIXED)
    """``choose``: classes are the photos that look at the point, by their headings; ``cut``: photos are
    panoramas (twice as wide as high, or wider: the middle of such), of which a view is cut for each point."""
    steps_per_epoch: int = field(default=10_000, metadata=FIXED)
    """Steps of an epoch of classes."""
    negatives: int | Literal["all"] = 1000
    """Negatives drawn for a query each time, or all there are. (nNegChoice)"""
    negatives_used: int = 10
    """At most so many of them, the nearest that violate the margin, are in a tuple. (nNegCap)"""
    negatives_remembered: int = 10
    """So many, the nearest, are among those drawn the next time; with ``mining = "all"`` only. (nNegCache)"""
    exclude_very_hard: bool = False
    """Leave out negatives that are nearer than the positive; not of batches of places. (excludeVeryHard)"""
    refresh_every: int = 1000
    """Queries after which all photos are described anew, with ``mining = "all"``. (compFeatsFrequency)"""
    refresh_slows: bool = True
    """When the learning rate falls, `refresh_every` grows by the same factor."""

    loss: Literal["squared", "plain", "multi_similarity", "large_margin"] = "squared"
    """``squared``: hinges on squared distances, over the violating triplets, divided by their number;
    ``plain``: hinges on distances, averaged over all triplets; ``multi_similarity``: of batches of places;
    ``large_margin``: of classes, by cosine."""
    margin: float = 0.1
    """Margin of the hinge: by how much a negative must be farther than the positive, on descriptors of length
    1, in squared distance (``squared``) or distance (``plain``). With ``large_margin``: by how much a photo's
    cosine with its own class must be greater. (margin)"""
    margin_scale: float = 30.0
    """Of ``large_margin``: what the cosines are multiplied by; above 0. (s)"""
    ms_alpha: float = 1.0
    """Multi-similarity: how sharply the least alike positives outweigh the others; above 0."""
    ms_beta: float = 50.0
    """Multi-similarity: how sharply the most alike negatives outweigh the others; above 0."""
    ms_base: float = 0.0
    """Multi-similarity: likeness (cosine) that parts positives from negatives."""
    ms_epsilon: float = 0.1
    """Multi-similarity: a negative counts that is at most so much less alike than the least alike positive,
    and a positive that is at most so much more alike than the likest negative."""

    optimizer: Literal["sgd", "adam", "adamw"] = field(default="sgd", metadata=FIXED)
    """The optimiser, as PyTorch has it."""
    learning_rate: float = 1e-4
    """Learning rate at the start. (learningRate)"""
    classifier_rate: float = 0.01
    """Learning rate of the layer that tells classes apart; it has an optimiser of its own, Adam."""
    lr_schedule: Literal["steps", "linear"] = "steps"
    """``steps``: it falls every so many epochs; ``linear``: with each batch, to nothing at the end."""
    lr_warmup: int = 0
    """Batches over which it first rises, linearly."""
    lr_down_every: int = 5
    """Epochs after which the learning rate falls, with ``steps``. (lrDownFreq)"""
    lr_down_factor: float = 2.0
    """What the learning rate is divided by when it falls. (lrDownFactor)"""
    weight_decay: float = 1e-3
    """Of all that learns, biases too. (weightDecay)"""
    momentum: float = 0.9
    """Momentum of SGD, from 0. (momentum)"""
    epochs: int = 30
    """Times that all queries, or places, are gone through. (nEpoch)"""
    patience: int = 0
    """Stop after so many epochs that were not the best on the validation set (by recall@5, and where that is
    the same, by the others); 0: never."""

    jitter_flip: bool = False
    """Mirror each tuple, all its photos together, with probability a half. (jitterFlip)"""
    jitter_scales: tuple[float, ...] = ()
    """Resize the photos of each tuple, all together, by one of these factors of the first photo's shorter
    side. (jitterScale)"""
    augment_crop: float = 1.0
    """Crop each photo at random, to no less than this share of its area, and resize it back; 1: do not."""
    augment_rotate: float = 0.0
    """Turn each photo by at most so many degrees, either way."""
    augment_flip: float = 0.0
    """Mirror each photo with this probability, whatever the others of its tuple do (unlike `jitter_flip`)."""
    augment_colour: float = 0.0
    """Change brightness, contrast and saturation of each photo by at most this share, its hue by a tenth."""
    augment_hue: float = 0.0
    """Change the hue of each photo by at most this share of the whole circle, up to 0.5, instead."""

    test_before: bool = True
    """Test before the first epoch too. (test0)"""
    test_every: int = 1
    """Epochs between tests on the validation set; the last is always tested. (epochTestFrequency)"""
    test_queries: int = 1000
    """Queries that recall is taken over, drawn once; 0: all. (nTestSample)"""
    rank_queries: int = 5000
    """The same for the ranking loss. (nTestRankSample)"""
    recall_at: tuple[int, ...] = field(default=RECALL_AT, metadata=FIXED)
    """The N of recall@N, ascending from 1. (recallNs)"""
    save_every: int = 2000
    """Queries between checkpoints within an epoch; 0: only at its end. (saveFrequency)"""

    seed: int = field(default=43, metadata=FIXED)
    """Of all that is drawn; what is drawn depends on it and on epoch, batch and query alone."""
    precision: Literal["fp32", "bf16", "fp64"] = field(default="fp32", metadata=FIXED)
    """Of the arithmetic. bf16: of the backbone, mixed; fp64 is for comparisons."""
    describe_batch: int = field(default=10, metadata=FIXED)
    """Photos that are described together. (computeBatchSize)"""
    photos_at_once: int = 64
    """Photos whose activations are held for the gradient at once; a step with more goes through the network
    twice, in parts, and gives the same."""
    workers: int = 4
    """Threads that decode photos. (numThreads)"""
    frozen_maps: Literal["auto", "memory", "disk", "off"] = "auto"
    """Where the maps below the first layer that learns are kept, so that they are computed once; ``auto``: in
    memory or on disk as `frozen_maps_gb` allows, else not."""
    frozen_maps_gb: float = 8.0
    """Gigabytes that they may take in memory; on disk a tenth of what is free stays free."""
    frozen_maps_dtype: Literal["float32", "float16", "int16"] = field(default="float32", metadata=FIXED)
    """How they are kept; float16 takes half, and so does int16: even steps within each channel, closer."""
    info: str = ""
    """Free text, kept with the run. (info)"""

    parity: bool = field(default=False, metadata=FIXED)
    """All quirks of the original, which are:"""
    quirk_drop_remainder: bool = field(default=False, metadata=FIXED)
    """Queries that do not fill a last batch are left out of an epoch."""
    quirk_lr_every_one: bool = False
    """With ``lr_down_every = 1`` the learning rate never falls."""
    quirk_loss_of_all: bool = False
    """The loss that is noted counts all negatives of a tuple, also those that `exclude_very_hard` leaves
    out."""
    quirk_momentum_lost: bool = False
    """A run that is resumed at an epoch's start begins it without momentum."""
    quirk_inverted_violation: bool = field(default=False, metadata=FIXED)
    """With a subcache: likenesses are taken for distances where violation is tested, so that nearly all
    negatives pass, and a query needs more of them than it uses (Mapillary's)."""

    def __post_init__(self) -> None:
        hints = _hints()
        for option in fields(self):
            value = _checked(option.name, getattr(self, option.name), hints[option.name])
            object.__setattr__(self, option.name, value)
        parse_method(self.method)
        check_trainable(self.trainable)
        if self.resize:
            parse_resize(self.resize)
        self._check_ranges()
        self._check_lists()
        self._check_pairs()

    def _check_ranges(self) -> None:
        """Refuse numbers outside their range.

        Raises:
            InputError: one is; the message names the option, its range and what was given.
        """
        for names, least in _AT_LEAST:
            for name in names:
                if getattr(self, name) < least:
                    raise InputError(f"{name} must be at least {least}; given {getattr(self, name)}")
        for name in _ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0; given {getattr(self, name)}")
        for name, limit in _AT_MOST:
            if getattr(self, name) > limit:
                raise InputError(f"{name} must be at most {limit}; given {getattr(self, name)}")
        if isinstance(self.negatives, int) and self.negatives < 1:
            raise InputError(f"negatives must be at least 1, or 'all'; given {self.negatives}")
        if not self.trivial_radius < self.positive_radius <= self.negative_radius:
            raise InputError(
                f"the radii must be trivial < positive <= negative; given {self.trivial_radius}, "
                f"{self.positive_radius} and {self.negative_radius} metres"
            )

    def _check_lists(self) -> None:
        """Refuse lists of numbers that cannot be.

        Raises:
            InputError: as for `TrainConfig`.
        """
        ascending = sorted(set(self.recall_at))
        if not ascending or ascending[0] < 1 or list(self.recall_at) != ascending:
            raise InputError(f"recall_at must be ascending numbers from 1; given {list(self.recall_at)}")
        if self.jitter_scales and min(self.jitter_scales) <= 0:
            raise InputError(f"jitter_scales must be above 0; given {list(self.jitter_scales)}")

    def _check_pairs(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            InputError: as for `TrainConfig`.
        """
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
        """Refuse sectors that would bring neighbours across north into one group.

        Raises:
            InputError: as for `TrainConfig`.
        """
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
        """Whether a quirk of the original is wanted: itself, or by `parity`."""
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
        for name in given:
            if name not in _hints():
                raise UnknownNameError("training option", name, _hints())
        return replace(self, **given)

    def _refuse_without_effect(self, names: Iterable[str]) -> None:
        """Refuse options that were set on purpose, and are not looked at beside the others.

        A value that switches an option off (0, false, an empty list) says what holds anyway, and passes.

        Args:
            names: options that were set on purpose.

        Raises:
            InputError: one of them has no effect; the message says what it goes with.
        """
        for name in names:
            if name not in _GOES_WITH or not getattr(self, name):
                continue
            deciding, values = _GOES_WITH[name]
            if getattr(self, deciding) not in values:
                wanted = " or ".join(repr(value) for value in values)
                raise InputError(
                    f"{name} = {getattr(self, name)!r} has no effect on training with {deciding} = "
                    f"{getattr(self, deciding)!r}; it goes with {deciding} = {wanted}. Leave it out"
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
        then, now = before.to_dict(), self.to_dict()
        changed = {key: (then[key], now[key]) for key in now if then[key] != now[key]}
        fixed = {option.name for option in fields(self) if option.metadata.get("resume") == "refused"}
        refused = [f"{key} was {old!r}, now {new!r}" for key, (old, new) in changed.items() if key in fixed]
        if refused:
            raise InputError(
                f"a run cannot be resumed with another {'; '.join(refused)}. Give what it began with, or "
                "another --out"
            )
        return changed


_AT_LEAST: Final = (
    (("batch_size", "negatives_used", "refresh_every", "lr_down_every", "test_every"), 1),
    (("describe_batch", "photos_at_once", "epochs"), 1),
    (("clusters", "cached_queries", "cached_negatives", "dims"), 1),
    (("group_squares", "group_sectors", "class_photos", "steps_per_epoch"), 1),
    (("photos_per_place",), 2),
    (("lr_warmup", "augment_rotate", "augment_flip", "augment_colour", "augment_hue", "place_sector"), 0),
    (("groups", "focal_tolerance"), 0),
    (("negatives_remembered", "test_queries", "rank_queries", "save_every", "workers"), 0),
    (("patience", "seed", "momentum", "weight_decay"), 0),
)
"""Options, and the least value that they may have."""
_ABOVE_ZERO: Final = (
    *("margin", "learning_rate", "lr_down_factor", "positive_radius", "frozen_maps_gb"),
    *("place_size", "ms_alpha", "ms_beta", "augment_crop"),
    *("margin_scale", "classifier_rate", "focal_distance"),
)
_AT_MOST: Final = (
    *(("augment_crop", 1), ("augment_flip", 1), ("augment_colour", 1)),
    *(("augment_rotate", 180), ("place_sector", 360), ("augment_hue", 0.5), ("focal_tolerance", 180)),
)
"""Options, and the greatest value that they may have."""

_TUPLES: Final = ("mining", ("all", "subcache"))
_ALL: Final = ("mining", ("all",))
_SUBCACHE: Final = ("mining", ("subcache",))
_PLACES: Final = ("mining", ("places",))
_CLASSES: Final = ("mining", ("classes",))
_GROUND: Final = ("places", ("ground",))
_STEPS: Final = ("lr_schedule", ("steps",))
_GOES_WITH: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    **dict.fromkeys(("negatives_used", "query_order", "exclude_very_hard"), _TUPLES),
    "margin": ("mining", ("all", "subcache", "classes")),
    **dict.fromkeys(("quirk_drop_remainder", "quirk_loss_of_all"), _TUPLES),
    **dict.fromkeys(("negatives_remembered", "refresh_every", "refresh_slows"), _ALL),
    **dict.fromkeys(("cached_queries", "cached_negatives", "quirk_inverted_violation"), _SUBCACHE),
    **dict.fromkeys(("places", "photos_per_place"), _PLACES),
    **dict.fromkeys(("ms_alpha", "ms_beta", "ms_base", "ms_epsilon"), _PLACES),
    **dict.fromkeys(("place_size", "place_sector"), _GROUND),
    **dict.fromkeys(("classes", "group_squares", "groups", "class_photos"), _CLASSES),
    **dict.fromkeys(("steps_per_epoch", "margin_scale", "classifier_rate"), _CLASSES),
    **dict.fromkeys(("focal_distance", "focal_tolerance", "focal_views"), ("classes", ("focal",))),
    "group_sectors": ("classes", ("heading",)),
    **dict.fromkeys(("lr_down_every", "lr_down_factor", "quirk_lr_every_one"), _STEPS),
    "weigh_tags": ("query_order", ("weighted",)),
    "momentum": ("optimizer", ("sgd",)),
}
"""Option -> the option that decides whether it is looked at, and the values of that with which it is."""


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(TrainConfig)


def _checked(name: str, value: Any, kind: Any) -> Any:
    """The value as the option's type; whole numbers serve as floats, lists as tuples."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_checked(name, item, parts[0]) for item in value)
    if origin in (Union, types.UnionType):
        literal = next(part for part in parts if get_origin(part) is Literal)
        if isinstance(value, str):
            return _checked(name, value, literal)
        return _checked(name, value, next(part for part in parts if part is not literal))
    if origin is Literal:
        if value not in parts:
            raise InputError(f"{name} must be one of {', '.join(map(str, parts))}; given {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if origin is tuple or type(value) is not kind or value != value:
        wanted = f"a list of {parts[0].__name__}" if origin is tuple else kind.__name__
        raise InputError(f"{name} must be {wanted}; given {value!r}")
    return value
