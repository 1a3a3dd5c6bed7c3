"""The Terraform module for Firestore: its provider may not be here, so only what Terraform itself can say."""

from __future__ import annotations

import json
from typing import Any

import hcl2

from infra.terraform_rig import INFRA, MODULES, Workspace


def test_the_module_for_firestore_makes_every_index_and_exemption_of_the_file(tmp_path) -> None:
    module = MODULES / "gcp-store-firestore"
    workspace = Workspace(tmp_path, "modules/gcp-store-firestore")
    source = (module / "main.tf").read_text("utf-8")
    # Nothing but the expressions, so that no provider is asked for.
    for path in workspace.folder.glob("*.tf"):
        if path.name != "variables.tf":
            path.unlink()
    (workspace.folder / "main.tf").write_text(source[source.index("locals {") : source.index("\nresource ")])
    workspace._write({"project": "project-1", "location": "eur3", "collection": "audit"})
    workspace.init()
    said = workspace.run("console", stdin="jsonencode([local.composites, local.exempt, local.groups])\n").stdout
    composites, exempt, groups = json.loads(json.loads(said))
    indexes = json.loads((INFRA / "firestore.indexes.json").read_text("utf-8"))
    assert sorted(map(json.dumps, composites.values())) == sorted(
        json.dumps(index, sort_keys=True) for index in map(in_console_order, indexes["indexes"])
    )
    assert {(field["collectionGroup"], field["fieldPath"]) for field in exempt.values()} == {
        (field["collectionGroup"], field["fieldPath"]) for field in indexes["fieldOverrides"]
    }
    assert groups == {"commands": "audit"}


def in_console_order(index: dict[str, Any]) -> dict[str, Any]:
    """Terraform sorts the names in an object."""
    return {
        name: [dict(sorted(field.items())) for field in value] if name == "fields" else value
        for name, value in sorted(index.items())
    }


def test_the_module_for_firestore_takes_its_indexes_from_these_expressions() -> None:
    parsed = hcl2.loads((MODULES / "gcp-store-firestore" / "main.tf").read_text("utf-8"))
    kinds = {name.strip('"'): body for block in parsed["resource"] for name, body in block.items()}
    [database], [index], [field] = (
        kinds[kind].values()
        for kind in ("google_firestore_database", "google_firestore_index", "google_firestore_field")
    )
    assert index["for_each"] == "${local.composites}"
    assert field["for_each"] == "${local.exempt}"
    assert {"delete_protection_state", "point_in_time_recovery_enablement"} <= set(database)
