"""What an option says about itself: its range, what it goes with, and whether a resumed run may change it.

Own code, and `guarded.fields` for types: pydantic or msgspec would replace some 40 lines, and their messages
would have to be translated into the one line that names the option, its range and the value given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from typing import Any, Final

from dejavlad.errors import InputError

RULE: Final = "rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for an option beside its type."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    """Its range; of a list, that of each item."""
    goes_with: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Another option -> the values of that with which this one has an effect."""
    fixed: bool = False
    """Whether it cannot change once a run has begun; all others hold from where it is resumed."""

    def check_range(self, name: str, value: Any) -> None:
        """Refuse numbers outside the range.

        Raises:
            InputError: one is; the message names the option, its range and what was given.
        """
        items = list(value) if isinstance(value, tuple) else [value]
        given = items if isinstance(value, tuple) else value
        for number in items:
            if self.at_least is not None and number < self.at_least:
                raise InputError(f"{name} must be at least {self.at_least}; given {given}")
            if self.above is not None and not number > self.above:
                raise InputError(f"{name} must be above {self.above}; given {given}")
            if self.at_most is not None and number > self.at_most:
                raise InputError(f"{name} must be at most {self.at_most}; given {given}")

    def check_effect(self, name: str, options: object) -> None:
        """Refuse an option that is not looked at beside the others.

        A value that switches the option off (0, false, an empty list) says what holds anyway, and passes.

        Raises:
            InputError: it has no effect; the message says what it goes with.
        """
        value = getattr(options, name)
        for deciding, values in self.goes_with.items():
            if value and getattr(options, deciding) not in values:
                raise InputError(
                    f"{name} = {value!r} has no effect on training with {deciding} = "
                    f"{getattr(options, deciding)!r}; it goes with {deciding} = "
                    f"{' or '.join(map(repr, values))}. Leave it out"
                )


def option(default: Any, **rule: Any) -> Any:
    """A field of a frozen dataclass with a default and a `Rule`, which takes the keywords."""
    return field(default=default, metadata={RULE: Rule(**rule)})


def rule_of(described: Field[Any]) -> Rule:
    """The rule of a field; one without any holds nothing against a value."""
    rule: Rule = described.metadata.get(RULE, Rule())
    return rule
