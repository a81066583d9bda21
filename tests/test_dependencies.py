"""docs/dependencies.md names every pinned package with its version."""

import re
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-check.txt"])
def test_every_pin_is_documented_with_its_version(name):
    documented = dict(re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \|", (ROOT / "docs/dependencies.md").read_text(), re.M))
    pins = re.findall(r"^([a-z0-9-]+)==([^ \\]+)", (ROOT / name).read_text(), re.M)
    assert pins
    assert [f"{package} {version}" for package, version in pins if version not in documented.get(package, "")] == []


def test_every_pin_has_a_hash():
    for name in ("requirements.txt", "requirements-check.txt"):
        pins = re.split(r"\n(?=[a-z0-9-]+==)", (ROOT / name).read_text())
        assert all("--hash=sha256:" in pin for pin in pins if "==" in pin.split("\n")[0])
