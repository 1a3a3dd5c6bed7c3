"""Asks for known vulnerabilities of what is locked, by pip-audit; ends with 1 where there are any.

Advisories live on the network. Where they can't be had, this says so and ends with 0: whoever has no network must be
able to run everything else. Names no host, and repeats nothing that a tool says of one.

``python .ci/advisories.py REQUIREMENTS PIP-AUDIT...``
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# Known, looked at, and of no consequence here: the id, and why. Empty is best.
ANSWERED: dict[str, str] = {}
PATIENCE = 45.0


def ask(tool: list[str], requirements: Path, seconds: float) -> list[dict[str, Any]] | None:
    """What is known of each package; None where nobody answered."""
    command = [*tool, "-r", str(requirements), "--no-deps", "--disable-pip", "-f", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)  # noqa: S603 - our own words
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None
    known = [package for package in found if "vulns" in package]
    return known or None


def main(requirements: Path, tool: list[str]) -> int:
    """Ask for one package first: where nothing is known of that, the many others are spared the wait."""
    lines = [line for line in requirements.read_text().splitlines() if line[:1].isalnum()]
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder, "one.txt")
        one.write_text(next(line for line in lines if line.startswith("pydantic==")) + "\n")
        found = ask(tool, one, 20.0) and ask(tool, requirements, PATIENCE)
    if not found:
        print("advisories can't be reached from here: nothing was audited")
        return 0
    bad = [(p, v) for p in found for v in p["vulns"] if not {v["id"], *v.get("aliases", ())} & ANSWERED.keys()]
    for package, vulnerability in bad:
        fixed = ", ".join(vulnerability.get("fix_versions", ())) or "no version yet"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    print(f"{len(found)} of {len(lines)} packages audited: {len(bad)} vulnerabilities, {len(ANSWERED)} answered")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
