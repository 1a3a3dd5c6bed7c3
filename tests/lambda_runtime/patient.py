"""The scheduled sync with more time for its end than a function needs: how long the last batch takes is no law."""

from __future__ import annotations

from commandstore.entrypoints import aws_lambda
from lambda_runtime.handlers import RESERVE

aws_lambda.RESERVE = RESERVE
handler = aws_lambda.handler
