"""Rules and journal in a whole instance: beat heals what changed past Django, and folds what the receiver counted."""

import json
import re

from tests.system.conftest import wait_until
from workers.receiver.journal import Journal


def told_titles(system) -> set[str]:
    content = json.loads((system.folder / "data" / "rules" / "callers.json").read_text())["content"]
    return {caller["ae_title"] for caller in content["callers"]}


def test_rows_changed_past_django_reach_the_receiver_and_its_counts_the_tables(system):
    # every column that must have a value, whichever there are
    values = {"name": "Raw", "ae_title": "RAW1", "host": "10.0.0.7", "port": 104, "query_character_set": "ISO_IR 192"}
    empty = {"boolean": False, "integer": 0, "smallint": 0}
    given = {name: values.get(name, empty.get(kind, "")) for name, kind in system.query(_TYPES)}
    given |= {"may_send": True, "is_active": True, "check_address": True}
    marks = ", ".join(["%s"] * len(given))
    system.query(f"INSERT INTO nodes_remotenode ({', '.join(given)}) VALUES ({marks}) RETURNING id", *given.values())
    journal = Journal(system.folder / "data" / "journal")
    journal.stored("RAW1", 7, 700)
    journal.close()

    counted = "SELECT instances, size_bytes FROM nodes_trafficminute WHERE calling_ae_title = 'RAW1'"
    wait_until(lambda: system.query(counted) == [(7, 700)], 60, "beat has folded the journal")
    wait_until(lambda: "RAW1" in told_titles(system), 120, "beat has healed the rules")
    said = system.manage("doctor").stdout
    assert re.search(r"^rules +ok +\d+ nodes, as the receiver reads them$", said, re.MULTILINE), said
    system.query("DELETE FROM nodes_remotenode WHERE ae_title = 'RAW1' RETURNING id")


_TYPES = """
    SELECT column_name::text, data_type::text FROM information_schema.columns
    WHERE table_name = 'nodes_remotenode' AND is_nullable = 'NO' AND column_name <> 'id'
"""
