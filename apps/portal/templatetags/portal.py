"""Icons of the page frame and words for people."""

from datetime import date, datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from pydicom.uid import UID

from apps.archive.conflicts import count_open
from apps.archive.models import Instance
from apps.archive.names import format_person_name

register = template.Library()

# Line drawings on a 24 x 24 grid, made for this project.
_ICONS = {
    "list": '<path d="M8 6h12M8 12h12M8 18h12"/><path d="M4 6h.01M4 12h.01M4 18h.01"/>',
    "search": '<circle cx="10.5" cy="10.5" r="6"/><path d="M15 15l5.5 5.5"/>',
    "exchange": '<path d="M4 9h15M15 5l4 4-4 4"/><path d="M20 16H5M9 20l-4-4 4-4"/>',
    "printer": '<path d="M7 9V4h10v5M7 17H4v-8h16v8h-3"/><path d="M7 14h10v6H7z"/>',
    "film": '<rect x="4" y="3" width="16" height="18" rx="1.5"/><path d="M4 9h16M4 15h16M12 3v18"/>',
    "image": '<rect x="3.5" y="4.5" width="17" height="15" rx="1.5"/><circle cx="9" cy="10" r="1.6"/>'
    '<path d="M4 18l5.5-5 3.5 3 3-2.5 4.5 4.5"/>',
    "file": '<path d="M6 3h8l5 5v13H6z"/><path d="M14 3v5h5M9 13h7M9 17h5"/>',
    "text": '<path d="M4 19L9.5 5h1L16 19M6 14h8"/><path d="M15 9c3-2 5.5-1 5.5 2v5"/>'
    '<circle cx="18" cy="14.5" r="2.5"/>',
    "settings": '<path d="M4 7h9M18 7h2M4 17h2M11 17h9"/><circle cx="15.5" cy="7" r="2.5"/>'
    '<circle cx="8.5" cy="17" r="2.5"/>',
    "sun": '<circle cx="12" cy="12" r="4"/><path d="M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4'
    'M18.4 5.6L17 7M7 17l-1.4 1.4"/>',
    "moon": '<path d="M20 14.5A8.5 8.5 0 1 1 9.5 4a6.8 6.8 0 0 0 10.5 10.5z"/>',
    "user": '<circle cx="12" cy="8" r="4"/><path d="M4.5 20.5c1-4 4-5.5 7.5-5.5s6.5 1.5 7.5 5.5"/>',
    "key": '<circle cx="8" cy="15" r="4"/><path d="M11 12l8.5-8.5M16 7l3 3M13.5 9.5l2 2"/>',
    "logout": '<path d="M13 4H5v16h8"/><path d="M10 12h10M16.5 8.5L20 12l-3.5 3.5"/>',
    "help": '<circle cx="12" cy="12" r="9"/><path d="M9.5 9.5a2.5 2.5 0 1 1 3.7 2.2c-.8.5-1.2 1-1.2 2"/>'
    '<path d="M12 17h.01"/>',
    "check": '<path d="M4.5 12.5l5 5 10-11"/>',
    "x": '<path d="M6 6l12 12M18 6L6 18"/>',
    "alert": '<path d="M12 4l9 16H3z"/><path d="M12 10v4M12 17h.01"/>',
    "info": '<circle cx="12" cy="12" r="9"/><path d="M12 11v6M12 7.5h.01"/>',
    "inbox": '<path d="M3.5 13L6 5h12l2.5 8v6h-17z"/><path d="M3.5 13H8l1.5 3h5l1.5-3h4.5"/>',
    "clock": '<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3.5 2"/>',
    "left": '<path d="M14.5 5.5L8 12l6.5 6.5"/>',
    "right": '<path d="M9.5 5.5L16 12l-6.5 6.5"/>',
    "down": '<path d="M5.5 9.5L12 16l6.5-6.5"/>',
    "back": '<path d="M20 12H5M10.5 6L4.5 12l6 6"/>',
    "refresh": '<path d="M19.5 12a7.5 7.5 0 1 1-2.3-5.4L20 9"/><path d="M20 4v5h-5"/>',
    "split": '<path d="M12 21v-7L5 7M12 14l7-7"/><path d="M4 12V6h6M14 6h6v6"/>',
    "undo": '<path d="M4.5 9.5h10a5 5 0 0 1 0 10H9"/><path d="M8.5 5.5l-4 4 4 4"/>',
    "lock": '<rect x="5" y="11" width="14" height="9.5" rx="1.5"/><path d="M8 11V8a4 4 0 0 1 8 0v3"/>',
    "history": '<path d="M4.5 12a7.5 7.5 0 1 0 2.3-5.4L4 9"/><path d="M4 4v5h5M12 8v4l3 2"/>',
    "server": '<rect x="4" y="4" width="16" height="7" rx="1.5"/><rect x="4" y="13" width="16" height="7" rx="1.5"/>'
    '<path d="M7.5 7.5h.01M7.5 16.5h.01"/>',
}


@register.simple_tag
def icon(name: str, css_class: str = "") -> SafeString:
    """One drawing, hidden from screen readers: the text beside it, or an aria-label, says what it means."""
    drawing = mark_safe(_ICONS[name])  # noqa: S308  # a constant of this module
    return format_html(
        '<svg class="icon {}" viewBox="0 0 24 24" width="24" height="24" fill="none" stroke="currentColor"'
        ' stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{}</svg>',
        css_class,
        drawing,
    )


_SEXES = {"M": "male", "F": "female", "O": "other"}


@register.filter
def sex_word(code: str) -> str:
    """Patient's Sex (PS3.3 C.7.1.1) in full; an unknown code stays as it is."""
    return _SEXES.get(code, code)


@register.filter
def age_on(birth: date | None, day: date | None) -> str:
    """The age on that day, else today: "7 d", "5 mo" or "63 y"; nothing where it cannot be told."""
    day = day or timezone.localdate()
    if birth is None or birth > day:
        return ""
    months = (day.year - birth.year) * 12 + day.month - birth.month - (day.day < birth.day)
    if months >= 24:
        return f"{months // 12} y"
    return f"{months} mo" if months else f"{(day - birth).days} d"


@register.simple_tag
def ago(moment: datetime) -> SafeString:
    """How long ago, with the exact time as its title; the page keeps the words up to date."""
    exact = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>',
        exact.isoformat(timespec="seconds"),
        exact.strftime("%Y-%m-%d %H:%M:%S %Z"),
        ago_words((timezone.now() - moment).total_seconds()),
    )


def ago_words(seconds: float) -> str:
    """ "now", "5 min ago", "3 h ago", "12 d ago"; portal.js says the same."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "now"
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // 1440} d ago"


@register.filter
def uid_name(uid: str) -> str:
    """What the standard calls it (PS3.6 annex A), else the UID."""
    return UID(uid).name


@register.filter
def object_word(instance: Instance) -> str:
    """What an object without pixels is, for people: "Comprehensive SR" and the like."""
    name = uid_name(instance.sop_class_uid).removesuffix(" Storage")
    return "Object of a private or unknown kind" if name == instance.sop_class_uid else name


@register.filter
def person_name(value: str) -> str:
    """A DICOM person name as people read it."""
    return format_person_name(value)


@register.filter
def middle_frame(instance: Instance) -> int:
    """The frame (from 1) that stands for a multi-frame image."""
    return instance.number_of_frames // 2 + 1


@register.simple_tag
def open_conflicts() -> int:
    """How many cases wait for a decision; asked for the menu of those who may decide."""
    return count_open()
