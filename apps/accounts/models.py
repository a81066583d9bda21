"""Who works here."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A member of staff. What they may do comes from their roles, which are Django groups."""
