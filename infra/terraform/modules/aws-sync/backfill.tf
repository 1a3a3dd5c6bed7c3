locals {
  state_machine_name = "${var.name}-backfill"
  state_machine_arn  = "arn:${local.partition}:states:${local.region}:${local.account}:stateMachine:${local.state_machine_name}"
  executions         = "arn:${local.partition}:states:${local.region}:${local.account}:execution:${local.state_machine_name}"

  # Not templatefile, which would take every other `${` of the definition for its own.
  backfill_definition = !var.create_backfill ? null : replace(replace(replace(
    file(coalesce(var.backfill_definition_file, "${path.module}/../../../backfill.asl.json")),
    "$${PlanFunctionArn}", aws_lambda_function.this["plan"].arn),
    "$${CopyRangeFunctionArn}", aws_lambda_function.this["copy_range"].arn),
  "$${FinishFunctionArn}", aws_lambda_function.this["finish"].arn)
}

resource "aws_sfn_state_machine" "backfill" {
  count = var.create_backfill ? 1 : 0

  name       = local.state_machine_name
  role_arn   = aws_iam_role.backfill[0].arn
  definition = local.backfill_definition
  tags       = var.tags

  depends_on = [aws_iam_role_policy.backfill]
}

data "aws_iam_policy_document" "backfill_trust" {
  count = var.create_backfill ? 1 : 0

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["states.amazonaws.com"]
    }

    # Nobody else's state machine gets this role.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    # The second is what the children of a Distributed Map are.
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = [local.state_machine_arn, "${local.state_machine_arn}/*"]
    }
  }
}

resource "aws_iam_role" "backfill" {
  count = var.create_backfill ? 1 : 0

  name                 = local.state_machine_name
  description          = "What the state machine ${local.state_machine_name} may do."
  assume_role_policy   = data.aws_iam_policy_document.backfill_trust[0].json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

data "aws_iam_policy_document" "backfill" {
  count = var.create_backfill ? 1 : 0

  statement {
    sid       = "Invoke"
    actions   = ["lambda:InvokeFunction"]
    resources = [for key in keys(local.backfill) : aws_lambda_function.this[key].arn]
  }

  # A Distributed Map starts a child of the state machine itself for each of its items.
  statement {
    sid       = "StartChildren"
    actions   = ["states:StartExecution"]
    resources = [local.state_machine_arn]
  }

  statement {
    sid       = "WatchChildren"
    actions   = ["states:DescribeExecution", "states:StopExecution"]
    resources = ["${local.executions}:*"]
  }

  # Of the runs of its map (CopyRanges is its label), when a failed execution is redriven.
  statement {
    sid       = "RedriveChildren"
    actions   = ["states:RedriveExecution"]
    resources = ["${local.executions}/CopyRanges:*"]
  }
}

resource "aws_iam_role_policy" "backfill" {
  count = var.create_backfill ? 1 : 0

  name   = "backfill"
  role   = aws_iam_role.backfill[0].id
  policy = data.aws_iam_policy_document.backfill[0].json
}
