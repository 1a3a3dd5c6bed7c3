"""Terraform for tests: the program, its providers from a mirror, and a copy of the modules that it may litter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
TERRAFORM = INFRA / "terraform"
MODULES = TERRAFORM / "modules"
AWS_MODULES = sorted(path.name for path in MODULES.glob("aws-*"))
SECONDS = 400

# Where system packages, images and people put plugins; the variable TF_PLUGIN_MIRROR comes first.
_PLACES = ("/opt", "/usr/share/terraform", "/usr/local/share/terraform", "/usr/lib/terraform", "~/.terraform.d")
_DEPTH = 2
_REGISTRY = "registry.terraform.io"
_CLI_CONFIG = """
provider_installation {
  filesystem_mirror {
    path    = %s
    include = ["%s/*/*"]
  }
}
"""
_OFFLINE = """
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "testing"
  secret_key                  = "testing"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}
"""


def unavailable(reason: str) -> NoReturn:
    """Skip the test: Terraform and its providers come from no package index, so even CI may be without them."""
    pytest.skip(reason)


def find_terraform() -> str:
    """The program."""
    found = shutil.which("terraform")
    if found is None:
        unavailable("terraform is not here: developer.hashicorp.com/terraform/install, 1.9 or newer")
    return found


def find_mirror() -> Path:
    """A folder with the AWS provider in it, laid out as ``terraform providers mirror`` does."""
    named = os.environ.get("TF_PLUGIN_MIRROR")
    places = [named] if named else _PLACES
    for place in (Path(place).expanduser() for place in places):
        for depth in range(_DEPTH + 1):
            for folder in sorted(place.glob("/".join(["*"] * depth))) if depth else [place]:
                if any(folder.glob(f"{_REGISTRY}/hashicorp/aws/**/terraform-provider-aws*")):
                    return folder
    unavailable(
        "no mirror of Terraform's AWS provider is here: in infra/terraform/modules/aws-sync, "
        "terraform providers mirror FOLDER, then TF_PLUGIN_MIRROR=FOLDER"
    )


def misformatted() -> str:
    """How `terraform fmt` would have it; empty where all is well."""
    command = [find_terraform(), "fmt", "-check", "-recursive", "-diff", str(TERRAFORM)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    return "" if done.returncode == 0 else done.stdout + done.stderr


class Workspace:
    """A copy of ``infra/``, and terraform run in one of its folders.

    Args:
        place: an empty folder.
        module: a folder below ``infra/terraform``.
        offline: give it a provider that asks nobody anything: for modules, which have none of their own.
    """

    def __init__(self, place: Path, module: str, *, offline: bool = False) -> None:
        self._program = find_terraform()
        config = place / "terraform.rc"
        mirror = json.dumps(str(find_mirror()))
        config.write_text(_CLI_CONFIG % (mirror, _REGISTRY))
        copy = place / "infra"
        # Without what terraform may have left where it was run by hand: plugins, a state.
        shutil.copytree(INFRA, copy, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars*"))
        self.folder = copy / "terraform" / module
        if offline:
            (self.folder / "offline.tf").write_text(_OFFLINE)
        # Nothing of the caller's: neither credentials, nor variables, nor other settings of Terraform.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "TF_"))}
        self._environment = inherited | {
            "TF_CLI_CONFIG_FILE": str(config),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run(self, *arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(  # noqa: S603
            [self._program, *arguments],
            cwd=self.folder,
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(
                f"terraform {arguments[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}", pytrace=False
            )
        return done

    def init(self) -> None:
        self.run("init", "-input=false", "-no-color", "-backend=false")

    def plan(self, variables: dict[str, Any]) -> dict[str, Any]:
        """The plan, as JSON."""
        self._write(variables)
        self.run("plan", "-input=false", "-no-color", "-out=plan")
        return self.show("plan")

    def refused(self, variables: dict[str, Any]) -> str:
        """What terraform says to these variables, which it must refuse."""
        self._write(variables)
        done = self.run("plan", "-input=false", "-no-color", check=False)
        assert done.returncode == 1, done.stdout
        return " ".join(done.stderr.replace("│", " ").split())

    def apply(self, variables: dict[str, Any]) -> None:
        self._write(variables)
        self.run("apply", "-input=false", "-no-color", "-auto-approve")

    def changes(self) -> str:
        """What another apply would do; empty where nothing."""
        done = self.run("plan", "-input=false", "-no-color", "-detailed-exitcode", check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def destroy(self) -> None:
        self.run("destroy", "-input=false", "-no-color", "-auto-approve")

    def outputs(self) -> dict[str, Any]:
        found = json.loads(self.run("output", "-json").stdout)
        return {name: output["value"] for name, output in found.items()}

    def show(self, *plan: str) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.run("show", "-json", *plan).stdout)
        return shown

    def _write(self, variables: dict[str, Any]) -> None:
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(variables))


def resources(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of all resources of a plan or a state, by their address."""

    def below(module: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        for resource in module.get("resources", ()):
            yield resource["address"], resource.get("values", {})  # none, where nothing is known yet
        for child in module.get("child_modules", ()):
            yield from below(child)

    return dict(below((shown.get("planned_values") or shown["values"])["root_module"]))


def actions_on(plan: dict[str, dict[str, Any]], function: str, arn: str) -> set[str]:
    """What a function of `aws-sync` may do with what has this ARN, of which Terraform knows when it plans."""
    document = plan[f'data.aws_iam_policy_document.function["{function}"]']
    about = [statement for statement in document["statement"] if arn in statement["resources"]]
    return {action for statement in about for action in statement["actions"]}


def empty_package(place: Path) -> str:
    """A zip for the functions. What is in it is no matter, as no test runs it."""
    path = place / "package.zip"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("commandstore/__init__.py", "")
    return str(path)
