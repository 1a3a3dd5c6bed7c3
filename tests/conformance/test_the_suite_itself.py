"""The suite notices what it should: backends that break one promise each are run through it."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from commandstore.testing.stateful import check_against_memory
from conformance import broken_listing, broken_not_at_all, broken_registers, broken_writing
from conformance.broken import BASIC
from conformance.broken_not_at_all import BROKEN
from conformance.places import MemoryPlace

FILES = [module.__file__ for module in (broken_writing, broken_listing, broken_registers, broken_not_at_all)]
# A lost answer, a race and what no list shows are beyond a machine that makes one call at a time.
MACHINE = ["Overwrites", "Misaligned", "UpdateCreates", "DeleteIsAlwaysTrue", "FoldsUuids", "TiesInUtf16", "LosesTies"]
MACHINE += ["DropsARow", "NegativeIsUnset", "EmptyIsNoFilter", "NoSessionFilter", "TotalIgnoresFilters", "SwapsBlindly"]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """For each suite: which laws passed, failed, had an error or were skipped."""
    report = tmp_path_factory.mktemp("report") / "junit.xml"
    arguments = ["-q", "-p", "no:cacheprovider", "--tb=no", f"--junitxml={report}", *FILES]
    subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-m", "pytest", *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        suite, law = case.attrib["classname"].rpartition(".")[2], case.attrib["name"].partition("[")[0]
        found[suite][next((child.tag for child in case if child.tag != "system-out"), "passed")].add(law)
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_noticed_by_its_laws(outcomes: dict[str, dict[str, set[str]]], name: str) -> None:
    assert set(outcomes[name]) <= {"passed", "failure"}
    assert outcomes[name]["failure"] == BROKEN[name].noticed_by
    assert BASIC in outcomes[name]["passed"]


def test_the_same_laws_find_nothing_wrong_with_a_right_backend(outcomes: dict[str, dict[str, set[str]]]) -> None:
    assert set(outcomes["TestRight"]) == {"passed"}
    assert len(outcomes["TestRight"]["passed"]) > len(BROKEN)


@pytest.mark.parametrize("name", MACHINE)
def test_a_broken_promise_is_noticed_by_the_state_machine(name: str) -> None:
    place = MemoryPlace(BROKEN[f"Test{name}"].broken())
    with pytest.raises((AssertionError, ValueError)):
        check_against_memory(place, examples=100, steps=40, shrink=False)


def test_the_state_machine_finds_nothing_wrong_with_a_right_backend() -> None:
    check_against_memory(MemoryPlace(), examples=20)
