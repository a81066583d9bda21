"""`manage.py create_user NAME --roles ROLE… --password-file PATH`: one account, once."""

from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from apps.accounts.models import User

STAFF_ROLE = "administrator"


class Command(BaseCommand):
    """Creates an account with roles; an account that exists is left as it is."""

    help = "Create an account with roles. An account that exists is left as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        """Name, roles, and where the password lies: never on the command line, where others could read it."""
        parser.add_argument("name")
        parser.add_argument("--roles", nargs="+", default=[], metavar="ROLE", help="for example: radiologist")
        parser.add_argument(
            "--password-file", required=True, type=Path, help="file with the password in its first line"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError for an unknown role or an unusable password file."""
        groups = _find_roles(options["roles"])
        existing = User.objects.filter(username=options["name"]).first()
        if existing is None:
            _create(options["name"], groups, _read_password(options["password_file"]))
            self.stdout.write(f"created {options['name']}: {', '.join(options['roles']) or 'no role'}")
        else:
            self.stdout.write(_describe_kept(existing, groups))


def _find_roles(names: list[str]) -> list[Group]:
    groups = list(Group.objects.filter(name__in=names))
    missing = sorted(set(names) - {group.name for group in groups})
    if missing:
        raise CommandError(f"no such role: {', '.join(missing)}; load them with: manage.py loaddata roles")
    return groups


def _read_password(path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise CommandError(f"cannot read the password file {path}: {error.strerror}") from error
    if not lines or not lines[0]:
        raise CommandError(f"the password file {path} is empty")
    return lines[0]


@transaction.atomic
def _create(name: str, groups: list[Group], password: str) -> None:
    is_staff = any(group.name == STAFF_ROLE for group in groups)
    user = User.objects.create_user(name, password=password, is_staff=is_staff)
    user.groups.set(groups)


def _describe_kept(user: User, groups: list[Group]) -> str:
    held = set(user.groups.values_list("name", flat=True))
    lacking = sorted({group.name for group in groups} - held)
    note = f"; it lacks {', '.join(lacking)}: change that in the administration" if lacking else ""
    return f"{user.get_username()} exists and is left as it is{note}"
