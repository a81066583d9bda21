"""`python -m dicomsys.evaluation COMMAND --folder DIR …`: what `./start` and `./check` call."""

import argparse
import os
import sys
from pathlib import Path

from dicomsys.evaluation import check, commands
from dicomsys.evaluation.folder import CODE, Folder

# Their further words are another program's; our own options stand before them.
PASSING_ON = {
    "psql": "psql on the instance",
    "pg_dump": "a plain dump of the database",
    "manage": "manage.py with the instance's settings",
    "check": "services, linters and tests; further words go to pytest",
}
OWN_OPTIONS = ("--folder", "--bench")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dicomsys.evaluation", description=__doc__)
    words = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = words.add_parser("start", help="a whole instance")
    start.add_argument("--detach", action="store_true", help="return when all is ready")
    start.add_argument("--no-demo", action="store_true", help="send no demonstration studies")
    start.add_argument("--reset", action="store_true", help="remove all data first; asks")
    start.add_argument("--yes", action="store_true", help="do not ask")
    services = words.add_parser("services", help="PostgreSQL and RabbitMQ only")
    services.add_argument("--detach", action="store_true", help="return when both are ready")
    words.add_parser("stop", help="end everything and wait for it")
    words.add_parser("status", help="a table of the processes")
    logs = words.add_parser("logs", help="the end of the logs")
    logs.add_argument("name", nargs="?", help="one of them")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what is added")
    for name, text in PASSING_ON.items():
        words.add_parser(name, help=text, add_help=False, allow_abbrev=False)
    words.choices["check"].add_argument("--bench", metavar="NAME", help="run tests.benchmarks.NAME instead")
    for command in words.choices.values():
        command.add_argument("--folder", type=Path, default=CODE / "var" / "evaluation", help="where the instance lies")
    return parser


def split_words(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our own words, and those that are passed on."""
    if not arguments or arguments[0] not in PASSING_ON:
        return arguments, []
    end = 1
    while arguments[end : end + 1] and arguments[end].split("=")[0] in OWN_OPTIONS:
        end += 1 if "=" in arguments[end] else 2
    return arguments[:end], arguments[end:]


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    os.umask(0o077)
    own, rest = split_words(arguments)
    words = _parser().parse_args(own)
    folder = Folder(words.folder.resolve())
    match words.command:
        case "start":
            if words.reset and (code := commands.reset(folder, words.yes)) != 0:
                return code
            return commands.start(folder, words.detach, with_demo=not words.no_demo)
        case "services":
            return commands.services(folder, words.detach)
        case "stop":
            return commands.stop(folder)
        case "status":
            return commands.status(folder)
        case "logs":
            return commands.logs(folder, words.name, words.follow)
        case "psql":
            return commands.psql(folder, rest)
        case "pg_dump":
            return commands.pg_dump(folder, rest)
        case "manage":
            return commands.manage(folder, rest)
        case _:
            return check.check(folder, rest, words.bench)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
