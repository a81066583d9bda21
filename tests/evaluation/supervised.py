"""A supervisor in a process of its own, as the tests of test_supervisor.py want it: FOLDER PROGRAM…"""

import os
import sys
from pathlib import Path

from dicomsys.evaluation.environment import base_environment
from dicomsys.evaluation.folder import Folder
from dicomsys.evaluation.supervisor import Program, Supervisor

SCRIPTS = {
    "steady": "exec sleep 600",
    "stubborn": "trap '' TERM INT; while true; do sleep 1; done",
    "mother": "(setsid sleep 600 &) ; exec sleep 600",
    "failing": "echo it broke; exit 3",
}


def main() -> None:
    folder = Folder(Path(sys.argv[1]))
    supervisor = Supervisor(folder.logs, folder.state_file)
    supervisor.catch_signals()
    for number, name in enumerate(sys.argv[2:]):
        environment = base_environment(folder)
        command = ["sh", "-c", SCRIPTS[name]]
        supervisor.start(Program(name, command, environment, folder.path, stage=number, stop_timeout_s=1.0))
    supervisor.mark_ready()
    supervisor.run()
    supervisor.stop()


if __name__ == "__main__":
    os.umask(0o077)
    main()
