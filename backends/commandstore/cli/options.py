"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Filter", "Json", "Keep", "KeyFile", "SigningKey", "Text", "Url"]

Url = Annotated[str, typer.Argument(metavar="URL", help="The store.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="What payloads are encrypted with: 32 raw bytes, lines of 64 hex digits, or JSON (see keys)."),
]
SigningKey = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|kms:KEY",
        help="What signs the entries of the ledger that the written store keeps (see audit).",
        show_default=False,
    ),
]
Keep = Annotated[
    bool,
    typer.Option(
        "--keep-undecryptable", help="Give commands that can't be decrypted all the same, their payloads sealed."
    ),
]
Text = Annotated[str, typer.Option(show_default=False)]
Filter = Annotated[str | None, typer.Option(help="Only this one's; '' is exactly empty.", show_default=False)]
