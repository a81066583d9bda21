"""The supervisor: restarts what dies, ends what it started, and leaves nothing behind, not even when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dicomsys.evaluation.leftovers import end_leftovers, leftovers
from dicomsys.evaluation.supervisor import rotate_log

SUPERVISED = Path(__file__).with_name("supervised.py")


def wait_until(condition, timeout_s=10.0):
    until = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)
    return result


def listen_to_hangup():
    """Under nohup these tests inherit a SIGHUP that is ignored, and the supervisor would keep it so."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def supervise(folder):
    processes = []

    def start(*names):
        command = [sys.executable, str(SUPERVISED), str(folder.path), *names]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        processes.append(subprocess.Popen(command, env=environment, preexec_fn=listen_to_hangup))
        wait_until(lambda: state(folder).get("ready"))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
    end_leftovers(folder, 1.0)


def state(folder):
    try:
        return json.loads(folder.state_file.read_text())
    except OSError:
        return {}


def pid_of(folder, name):
    return state(folder)["processes"][name]["pid"]


def test_a_killed_child_is_started_again(folder, supervise):
    supervise("steady")
    first = pid_of(folder, "steady")
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: (pid := pid_of(folder, "steady")) not in (first, None) and pid)
    assert Path(f"/proc/{second}").exists()
    assert state(folder)["processes"]["steady"]["restarts"] == 1
    assert "ended with -9" in (folder.logs / "steady.log").read_text()


def test_a_child_that_keeps_failing_is_not_started_in_a_rush(folder, supervise):
    supervise("failing")
    time.sleep(2.0)
    assert 1 <= state(folder)["processes"]["failing"]["restarts"] <= 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_in_order(folder, supervise, number):
    process = supervise("steady", "mother")
    wait_until(lambda: len(leftovers(folder)) == 3)
    process.send_signal(number)
    assert process.wait(10) == 0
    assert leftovers(folder) == []


def test_a_child_that_does_not_listen_is_killed(folder, supervise):
    process = supervise("stubborn")
    process.terminate()
    assert process.wait(10) == 0
    assert leftovers(folder) == []


def test_children_do_not_outlive_a_killed_supervisor(folder, supervise):
    process = supervise("steady")
    process.kill()
    wait_until(lambda: leftovers(folder) == [])


def test_what_a_killed_supervisor_left_is_found_and_ended(folder, supervise):
    process = supervise("stubborn", "mother")
    wait_until(lambda: len(leftovers(folder)) >= 3)
    process.kill()
    process.wait()
    assert len(leftovers(folder)) >= 2
    assert end_leftovers(folder, 0.5) >= 2
    assert leftovers(folder) == []


def test_logs_are_rotated_at_start_and_only_some_are_kept(tmp_path):
    log = tmp_path / "web.log"
    for number in range(6):
        log.write_text(str(number))
        rotate_log(log)
    assert not log.exists()
    assert [log.with_name(f"web.log.{number}").read_text() for number in (1, 2, 3)] == ["5", "4", "3"]
    assert not log.with_name("web.log.4").exists()
