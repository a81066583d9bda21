"""The coercion rules in force: read at most every other second, and how they act on a file that arrives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic

from django.utils import timezone

from apps.archive.coercion import Rule, coerce, coerce_by
from apps.archive.header import Header
from apps.archive.models import CoercionRule

KEPT_S = 2.0  # so long after a change may another process work by the old rules


@dataclass(frozen=True)
class RuleBook:
    """The rules in force, in order, and every rule there ever was: studies name those that they came by."""

    rules: tuple[Rule, ...]
    every: dict[int, Rule]

    def coerced(self, header: Header) -> Header:
        """What the database is told of the file with this header."""
        return coerce(header, self.rules)

    def as_study_came(self, header: Header, coerced_by: Mapping[str, int]) -> Header:
        """What the database would be told by the rules that a study came by, whatever the rules of now."""
        return coerce_by(header, coerced_by, self.every)


def read_rules() -> RuleBook:
    """From the database."""
    rows = list(CoercionRule.objects.order_by("position", "pk"))
    return RuleBook(tuple(row.as_rule() for row in rows if row.is_active), {row.pk: row.as_rule() for row in rows})


def current_rules(needed: Iterable[int] = ()) -> RuleBook:
    """As read within the last two seconds; read anew where it lacks a rule of `needed`, which a study names."""
    global _kept
    read_at, book = _kept
    if book is None or monotonic() - read_at > KEPT_S or not book.every.keys() >= set(needed):
        book = read_rules()
        _kept = monotonic(), book
    return book


def forget_rules() -> None:
    """Read them anew the next time."""
    global _kept
    _kept = 0.0, None


_kept: tuple[float, RuleBook | None] = (0.0, None)


def replace_rule(rule: CoercionRule) -> None:
    """Save a rule that does something else than before: as a new one, because studies remember what the old one did."""
    old = CoercionRule.objects.filter(pk=rule.pk)
    old.update(is_active=False, retired_at=timezone.now())
    old_key, rule.pk, rule._state.adding = rule.pk, None, True
    rule.save(force_insert=True)
    CoercionRule.objects.filter(pk=old_key).update(replaced_by=rule)
