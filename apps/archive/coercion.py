"""What a sender leaves out or gets wrong, put right for the database by rules of its AE title; the file stays as it is.

Issuer, prefix of the Patient ID and character set are three questions. For each, the first rule in order that answers
it and is for the sender decides; what later rules say about it does not count. So applied again, nothing changes.
Nothing here imports Django.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from apps.archive.charset_doubts import Doubt
from apps.archive.header import Header, assume_default
from apps.archive.texts import limit_identity

LEAVE, ADD, REPLACE = "", "add", "replace"  # what a rule does to the issuer: nothing, where there is none, always
ISSUER, PATIENT_ID, CHARACTER_SET = "issuer", "patient_id", "character_set"  # what a rule can have changed
CHARACTER_SETS = {
    "ISO_IR 192": "Unicode (ISO_IR 192)",
    "ISO_IR 100": "Latin 1, Western Europe (ISO_IR 100)",
    "ISO_IR 101": "Latin 2, Central Europe (ISO_IR 101)",
    "ISO_IR 109": "Latin 3, Southern Europe (ISO_IR 109)",
    "ISO_IR 110": "Latin 4, Baltic (ISO_IR 110)",
    "ISO_IR 148": "Latin 5, Turkish (ISO_IR 148)",
    "ISO_IR 144": "Cyrillic (ISO_IR 144)",
    "ISO_IR 126": "Greek (ISO_IR 126)",
    "ISO_IR 127": "Arabic (ISO_IR 127)",
    "ISO_IR 138": "Hebrew (ISO_IR 138)",
    "ISO_IR 166": "Thai (ISO_IR 166)",
    "ISO_IR 13": "Japanese (ISO_IR 13)",
    "ISO 2022 IR 149": "Korean (ISO 2022 IR 149)",
    "GB18030": "Chinese (GB18030)",
    "GBK": "Chinese (GBK)",
}

Identity = tuple[str, str]  # issuer and Patient ID


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it acts; empty fields leave things as they are, an empty AE title means every sender."""

    pk: int
    calling_ae_title: str = ""
    issuer_action: str = LEAVE
    issuer: str = ""
    patient_id_prefix: str = ""
    character_set: str = ""

    def is_for(self, calling_ae_title: str) -> bool:
        """Whether it concerns what this AE sent."""
        return self.calling_ae_title in ("", calling_ae_title)


def coerce(header: Header, rules: Sequence[Rule]) -> Header:
    """The header with the identity that the rules give it, and which of them had an effect.

    rules are in order. Without a Patient ID there is nothing to prefix, and an issuer would say nothing.
    """
    if not rules:
        return header
    applied = dict(header.coerced_by)
    if reading_rule := character_set_rule(header, rules):
        header = assume_default(header, reading_rule.character_set)
        applied[CHARACTER_SET] = reading_rule.pk
    issuer_rule = _first(header, rules, "issuer_action")
    prefix_rule = _first(header, rules, "patient_id_prefix")
    sent = _sent(header)
    identity = _identify(sent, issuer_rule, prefix_rule)
    for what, rule, is_changed in (
        (ISSUER, issuer_rule, identity[0] != sent[0]),
        (PATIENT_ID, prefix_rule, identity[1] != sent[1]),
    ):
        applied.pop(what, None)
        if rule and is_changed:
            applied[what] = rule.pk
    coerced_by = tuple((what, applied[what]) for what in (ISSUER, PATIENT_ID, CHARACTER_SET) if what in applied)
    if coerced_by == header.coerced_by and identity == (header.issuer, header.patient_id):
        return header
    issuer, patient_id = identity
    sent_as = None if identity == sent else sent
    return replace(header, issuer=issuer, patient_id=patient_id, sent_as=sent_as, coerced_by=coerced_by)


def coerce_by(header: Header, coerced_by: Mapping[str, int], rules: Mapping[int, Rule]) -> Header:
    """The header with the identity that these rules give it, and as it was sent where there is none.

    coerced_by is what a study remembers: what was changed → the key of the rule.
    """

    def rule(what: str) -> Rule | None:
        found = rules.get(coerced_by.get(what, 0))
        return found if found and found.is_for(header.calling_ae_title) else None

    issuer, patient_id = _identify(_sent(header), rule(ISSUER), rule(PATIENT_ID))
    if (issuer, patient_id) == (header.issuer, header.patient_id):
        return header
    return replace(header, issuer=issuer, patient_id=patient_id, sent_as=_sent(header))


def character_set_rule(header: Header, rules: Iterable[Rule]) -> Rule | None:
    """The rule that says how the texts of this header are read, where the data set does not say it."""
    return _first(header, rules, "character_set") if header.doubt is Doubt.MISSING else None


def _first(header: Header, rules: Iterable[Rule], answer: str) -> Rule | None:
    """The rule that decides one question."""
    return next((rule for rule in rules if getattr(rule, answer) and rule.is_for(header.calling_ae_title)), None)


def _sent(header: Header) -> Identity:
    return header.sent_as or (header.issuer, header.patient_id)


def _identify(sent: Identity, issuer_rule: Rule | None, prefix_rule: Rule | None) -> Identity:
    issuer, patient_id = sent
    if not patient_id:
        return sent
    if issuer_rule and (issuer_rule.issuer_action == REPLACE or not issuer):
        issuer = issuer_rule.issuer
    if prefix_rule and not patient_id.startswith(prefix_rule.patient_id_prefix):
        patient_id = limit_identity(prefix_rule.patient_id_prefix + patient_id)
    return issuer, patient_id
