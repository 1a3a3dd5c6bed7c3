"""The command behind docs/performance.md works, all of it, so that its figures can be made again any day."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a quick run leaves out: a package that is no dependency, and a server that takes seconds to make.
POSTGRES = {
    "Postgres, only counted",
    "Postgres, only counted, processor",
    "to S3: SQLite's rate by Postgres's",
    "to DynamoDB: SQLite's by Postgres's",
    "only counted: SQLite's by Postgres's",
}
ABSENT = {"PynamoDB batch_write", *POSTGRES}


def test_one_command_measures_everything_beside_its_peers(tmp_path: Path) -> None:
    made, plot = tmp_path / "table.json", tmp_path / "table.svg"
    said = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "benchmarks/table.py", "--quick", "--json", str(made), "--plot", str(plot)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    rows = json.loads(made.read_text())["rows"]
    for row in rows:
        named = {row["what"]: row["ours"], **row["peers"]}
        assert {name for name, value in named.items() if value is None} <= ABSENT
        assert f"| {row['what']} |" in said.stdout
    bars = ET.fromstring(plot.read_text()).findall("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - our own
    assert len(bars) > len([row for row in rows if row["group"] == "create_many"])


def test_the_page_shows_every_row_and_the_plot() -> None:
    table = (ROOT / "benchmarks" / "table.py").read_text()
    page = (ROOT / "docs" / "performance.md").read_text()
    for name in re.findall(r'^    Row\("[^"]+", "([^"]+)"', table, re.MULTILINE):
        assert f"| {name.strip()} |" in re.sub(r" +", " ", page), name
    assert "](performance.svg)" in page
    assert (ROOT / "docs" / "performance.svg").exists()
