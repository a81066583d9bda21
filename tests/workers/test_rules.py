"""Who may connect, from a signed file and nothing else: without the database mark, a query fails the test."""

import json
import logging
import os
import threading

import pytest
from django.contrib.auth.hashers import make_password

from apps.nodes.signed import write_signed
from workers.receiver import rules as module
from workers.receiver.rules import Caller, Rejection, Rules, UserIdentity

KEY = "k" * 40
STATION = "10.0.0.7"


def entry(ae_title="CT1", **changes) -> dict:
    return {
        "node": 1, "ae_title": ae_title, "networks": [f"{STATION}/32"], "may_send": True, "max_associations": None,
        "requires_tls": False, "identity": None, **changes,
    }  # fmt: skip


def caller(calling="CT1", called="DICOMSYS", address=STATION, **more) -> Caller:
    return Caller(calling, called, address, **more)


def numbers(rejection: Rejection | None) -> tuple[int, int, int] | None:
    return rejection and (rejection.result, rejection.source, rejection.reason)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "callers.json"


@pytest.fixture
def write(path):
    def write(*entries: dict, called=(), key=KEY) -> None:
        write_signed(path, {"version": 1, "called": list(called), "callers": list(entries)}, key)

    return write


@pytest.fixture
def rules(path):
    def make(**options) -> Rules:
        return Rules(path, KEY, "DICOMSYS", **options)

    return make


def test_a_known_caller_at_its_address_may_connect(write, rules):
    write(entry())
    assert rules().decide(caller()) is None
    assert rules().decide(caller(" CT1  ", " DICOMSYS ")) is None  # spaces around mean nothing
    assert rules().decide(caller("CT1\0\0", "DICOMSYS\0")) is None
    assert rules().decide(caller(address=f"::ffff:{STATION}")) is None


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (caller(called="OTHER"), (1, 1, 7)),
        (caller(called="dicomsys"), (1, 1, 7)),
        (caller(calling="STRANGER"), (1, 1, 3)),
        (caller(calling="ct1"), (1, 1, 3)),
        (caller(calling=""), (1, 1, 3)),
        (caller(calling="\0\x1b[2J<b>\\%s{}\udcff"), (1, 1, 3)),
        (caller(address="10.0.0.8"), (1, 1, 3)),
        (caller(address="127.0.0.1"), (1, 1, 3)),
        (caller(address="not an address"), (1, 1, 3)),
        (caller(calling="VIEWER"), (1, 1, 3)),
        (caller(calling="CLOUD"), (1, 1, 1)),
    ],
)
def test_who_is_not_known_is_rejected_with_the_numbers_of_the_standard(write, rules, asked, answer):
    write(entry(), entry("VIEWER", may_send=False), entry("CLOUD", requires_tls=True))
    rejection = rules().decide(asked)
    assert numbers(rejection) == answer
    assert rejection.words


def test_tls_opens_a_node_that_must_use_it(write, rules):
    write(entry(requires_tls=True))
    assert rules().decide(caller(is_tls=True)) is None


def test_networks_and_unchecked_addresses(write, rules):
    write(entry(networks=["10.0.1.0/24", "fd00::/64"]), entry("DHCP", networks=None), entry("LOST", networks=[]))
    asked = rules()
    assert asked.decide(caller(address="10.0.1.200")) is None
    assert asked.decide(caller(address="fd00::5%eth0")) is None
    assert asked.decide(caller(address="10.0.2.1")) is not None
    assert asked.decide(caller("DHCP", address="192.0.2.1")) is None
    assert asked.decide(caller("LOST")) is not None


def test_several_nodes_may_share_an_ae_title(write, rules):
    write(entry(), entry(networks=["10.0.0.9/32"], requires_tls=True))
    asked = rules()
    assert asked.decide(caller()) is None
    assert numbers(asked.decide(caller(address="10.0.0.9"))) == (1, 1, 1)
    assert asked.decide(caller(address="10.0.0.9", is_tls=True)) is None


def test_further_titles_of_ours_are_answered_to(write, rules):
    write(entry(), called=["ARCHIVE"])
    assert rules().decide(caller(called="ARCHIVE")) is None


def test_a_node_that_may_not_send_passes_where_others_decide(write, rules):
    write(entry(may_send=False))
    assert rules().decide(caller(), only_senders=False) is None


def test_without_a_file_nobody_may_connect(rules, caplog):
    asked = rules()
    for _ in range(3):
        assert numbers(asked.decide(caller())) == (1, 1, 3)
    assert len(caplog.records) == 1


def test_evaluation_takes_any_title_from_this_machine_only(write, rules):
    write(entry(requires_tls=True, networks=["127.0.0.1/32"]))
    asked = rules(accepts_local_strangers=True)
    assert asked.decide(caller("ANY", address="127.0.0.1")) is None
    assert asked.decide(caller("ANY", address="::1")) is None
    assert asked.decide(caller("ANY", called="OTHER", address="127.0.0.1")) is not None
    assert asked.decide(caller("ANY", address="10.0.0.1")) is not None
    assert asked.decide(caller(address="127.0.0.1")) is not None  # a node of this machine keeps its rules


def test_this_system_may_ask_itself(rules):
    asked = rules(own_address="10.0.0.1")
    assert asked.decide(caller("DICOMSYS", address="127.0.0.1"), only_verifies=True) is None
    assert asked.decide(caller("DICOMSYS", address="10.0.0.1"), only_verifies=True) is None
    assert asked.decide(caller("DICOMSYS", address="10.0.0.2"), only_verifies=True) is not None
    assert asked.decide(caller("DICOMSYS", address="127.0.0.1")) is not None  # whoever works here may not store as us
    assert rules(own_address="0.0.0.0").decide(caller("DICOMSYS", address="10.0.0.2"), only_verifies=True) is not None


def test_the_limit_of_an_ae_title_is_that_of_its_nodes_together(write, rules):
    write(entry(max_associations=2), entry(max_associations=3), entry("CT2", max_associations=1), entry("CT2"))
    asked = rules()
    assert asked.max_associations("CT1 ") == 5
    assert asked.max_associations("CT2") is None
    assert asked.max_associations("CT3") is None


def test_a_changed_file_holds_at_the_next_question(write, rules):
    write()
    asked = rules()
    assert asked.decide(caller()) is not None
    write(entry())
    assert asked.decide(caller()) is None
    write()
    assert asked.decide(caller()) is not None


def spoil_signature(path):
    path.write_text(path.read_text().replace("DICOM-9", "DICOM-8"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def nest(path):
    path.write_text("[" * 100_000)


@pytest.mark.parametrize("spoil", [spoil_signature, truncate, nest, os.unlink, lambda path: path.write_bytes(b"\xff")])
def test_a_spoilt_file_leaves_the_last_good_rules_and_is_told_once(write, rules, path, caplog, spoil):
    write(entry())
    asked = rules()
    caplog.clear()
    write(entry("DICOM-9"))
    spoil(path)
    for _ in range(5):
        assert asked.decide(caller()) is None
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    write(entry("DICOM-9"))
    assert asked.decide(caller()) is not None
    assert asked.decide(caller("DICOM-9")) is None


def test_a_file_signed_with_another_key_opens_nothing(write, rules):
    write(entry(), key="x" * 40)
    assert rules().decide(caller()) is not None


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"version": 2, "called": [], "callers": []},
        {"version": 1, "called": [], "callers": [{"ae_title": "CT1"}]},
        {"version": 1, "called": [], "callers": [entry(networks=["no network"])]},
        {"version": 1, "called": 5, "callers": None},
    ],
)
def test_signed_nonsense_is_not_used(path, rules, content):
    write_signed(path, content, KEY)
    assert rules().decide(caller()) is not None


def test_the_file_is_for_its_owner_only(write, path):
    write(entry())
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(path.read_text())) == {"content", "hmac_sha256"}


def test_many_threads_may_ask_while_the_file_changes(write, rules):
    write(entry())
    asked, wrong, done = rules(), [], threading.Event()

    def ask():
        while not done.is_set():
            if asked.decide(caller()) is not None:
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        write(entry(), entry(f"X{number}"))
    done.set()
    for thread in threads:
        thread.join(10)
    assert wrong == []
    assert asked.decide(caller("X19")) is None


# --- user identity


@pytest.fixture
def fast_hashes(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def with_identity(write, rules, fast_hashes):
    write(
        entry(identity={"username": "müller", "password_hash": make_password("häns")}),
        entry("NAME", identity={"username": "robot", "password_hash": ""}),
        entry("FREE"),
    )
    return rules(checks_identity=True)


def identity(name="müller", password="häns", kind=2) -> UserIdentity:
    return UserIdentity(kind, name.encode(), password.encode())


@pytest.mark.parametrize(
    ("calling", "offered", "answer"),
    [
        ("CT1", identity(), None),
        ("CT1", None, (1, 2, 1)),
        ("CT1", identity(password="hans"), (1, 2, 1)),
        ("CT1", identity(name="muller"), (1, 2, 1)),
        ("CT1", identity(kind=1), (1, 2, 1)),
        ("CT1", identity(kind=3), (1, 2, 1)),
        ("CT1", UserIdentity(2, "müller".encode(), b"h\xff"), (1, 2, 1)),
        ("CT1", identity(password="x" * 100_000), (1, 2, 1)),
        ("NAME", identity("robot", "", 1), None),
        ("NAME", identity("other", "", 1), (1, 2, 1)),
        ("FREE", None, None),
        ("FREE", identity("anybody"), None),
        ("FREE", identity(kind=4), (1, 2, 1)),
        ("FREE", identity(kind=5), (1, 2, 1)),
    ],
)
def test_user_identity_is_checked_where_that_is_set(with_identity, calling, offered, answer):
    for _ in range(2):  # the second time from memory
        assert numbers(with_identity.decide(caller(calling, user_identity=offered))) == answer


def test_user_identity_is_ignored_where_that_is_set(write, rules, fast_hashes):
    write(entry(identity={"username": "a", "password_hash": make_password("b")}))
    assert rules().decide(caller()) is None
    assert rules().decide(caller(user_identity=identity(kind=3))) is None


def test_a_wrong_name_costs_as_many_hashes_as_a_wrong_password(with_identity, monkeypatch):
    hashed = []
    check = module.check_password
    monkeypatch.setattr(module, "check_password", lambda *words: hashed.append(1) or check(*words))
    with_identity.decide(caller(user_identity=identity(name="x", password="y")))
    assert len(hashed) == 1
    with_identity.decide(caller(user_identity=identity(password="y")))
    assert len(hashed) == 2


def test_neither_name_nor_password_is_shown_or_logged(with_identity, caplog):
    caplog.set_level(logging.DEBUG)
    asked = caller(user_identity=identity("Geheim", "Geheim"))
    rejection = with_identity.decide(asked)
    assert "Geheim" not in repr(asked) + repr(rejection) + caplog.text
