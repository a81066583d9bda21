"""UIDs in addresses. What a sender calls a UID may be any text: then it travels encoded, never as typed."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from apps.storage.paths import safe_uid


class UidConverter:
    """A UID of digits and dots as it is; anything else as "~" and base64 of its UTF-8 bytes."""

    regex = r"[0-9.]{1,64}|~[A-Za-z0-9_-]+"

    def to_python(self, value: str) -> str:
        """The UID. Raises ValueError, which Django answers with 404, for what `to_url` never writes."""
        if not value.startswith("~"):
            return value
        uid = urlsafe_b64decode(value[1:] + "=" * (-(len(value) - 1) % 4)).decode()
        if "\0" in uid or self.to_url(uid) != value:
            raise ValueError(value)
        return uid

    def to_url(self, value: str) -> str:
        """The piece of the address that stands for the UID."""
        if safe_uid(value) == value:
            return value
        return "~" + urlsafe_b64encode(value.encode()).decode().rstrip("=")
