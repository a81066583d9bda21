"""Person names (PS3.5 6.2.1): how they read, and how they are searched."""

import unicodedata


def format_person_name(value: str) -> str:
    """ "Family, Given Middle" of the alphabetic component group; ideographic and phonetic ones follow in brackets.

    value holds up to three component groups separated by "=", each of five components separated by "^". A group that
    only repeats another is left out.
    """
    alphabetic, *others = (value.split("=") + ["", "", ""])[:3]
    first = _format_group(alphabetic)
    rest = dict.fromkeys(words for group in others if (words := " ".join(group.replace("^", " ").split())))
    second = ", ".join(words for words in rest if words != first)
    return f"{first} ({second})" if first and second else first or second


def _format_group(group: str) -> str:
    family, given, middle, prefix, suffix = (group.split("^") + [""] * 5)[:5]
    first = " ".join(part.strip() for part in (prefix, given, middle) if part.strip())
    text = ", ".join(part for part in (family.strip(), first) if part)
    return " ".join(part for part in (text, suffix.strip()) if part)


def search_key(value: str) -> str:
    """The name as it is searched: every component of every group, without accents and case, separated by spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", value) if not unicodedata.combining(c))
    return " ".join(bare.casefold().replace("^", " ").replace("=", " ").replace(",", " ").split())
