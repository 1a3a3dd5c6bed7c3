# A role for each function, with what that one does.

data "aws_iam_policy_document" "lambda_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "function" {
  for_each = local.functions

  name                 = local.function_names[each.key]
  description          = "What the function ${local.function_names[each.key]} may do."
  assume_role_policy   = data.aws_iam_policy_document.lambda_trust.json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

data "aws_iam_policy_document" "function" {
  for_each = local.functions

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"]
  }

  dynamic "statement" {
    for_each = var.source_secret_arn == null ? [] : [var.source_secret_arn]
    content {
      sid       = "SourceSecret"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.source_parameter_arn == null ? [] : [var.source_parameter_arn]
    content {
      sid       = "SourceParameter"
      actions   = ["ssm:GetParameter"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.source_kms_key_arn == null ? [] : [var.source_kms_key_arn]
    content {
      sid       = "SourceKey"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = [for service in local.secret_services : "${service}.${local.region}.amazonaws.com"]
      }
    }
  }

  # Every function opens both stores as they are, also where it meets no payload.
  dynamic "statement" {
    for_each = length(local.keys_secrets) == 0 ? [] : [local.keys_secrets]
    content {
      sid       = "Keys"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = var.payload_kms_key_arn == null || length(each.value.payloads) == 0 ? [] : [var.payload_kms_key_arn]
    content {
      sid       = "Payloads"
      actions   = each.value.payloads
      resources = [statement.value]
    }
  }

  # Whoever can sign can state anything: only what copies commands may.
  dynamic "statement" {
    for_each = var.ledger_key_arn == null || !each.value.signs ? [] : [var.ledger_key_arn]
    content {
      sid       = "Ledger"
      actions   = ["kms:GetPublicKey", "kms:Sign"]
      resources = [statement.value]
    }
  }

  # Only the scheduled functions are invoked asynchronously.
  dynamic "statement" {
    for_each = contains(keys(local.scheduled), each.key) ? [aws_sqs_queue.failures.arn] : []
    content {
      sid       = "FailureQueue"
      actions   = ["sqs:SendMessage"]
      resources = [statement.value]
    }
  }

  # Decrypt: the function's environment. GenerateDataKey: what it puts into the failure queue.
  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      sid       = "OwnKey"
      actions   = contains(keys(local.scheduled), each.key) ? ["kms:Decrypt", "kms:GenerateDataKey"] : ["kms:Decrypt"]
      resources = [statement.value]
    }
  }

  # In a VPC the Lambda service, in the role's name, makes network interfaces, which have no name before they are made;
  # it refuses a role that may not do this on every resource. It is the only `*` here, and the code itself is kept from
  # it: requests of the code, and only those, carry the function's ARN.
  dynamic "statement" {
    for_each = var.vpc == null ? [] : ["Allow", "Deny"]
    content {
      sid    = "Network${statement.value}"
      effect = statement.value
      actions = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
      ]
      resources = ["*"]

      dynamic "condition" {
        for_each = statement.value == "Deny" ? [local.function_arns[each.key]] : []
        content {
          test     = "ArnEquals"
          variable = "lambda:SourceFunctionArn"
          values   = [condition.value]
        }
      }
    }
  }
}

resource "aws_iam_role_policy" "function" {
  for_each = local.functions

  name   = "function"
  role   = aws_iam_role.function[each.key].id
  policy = data.aws_iam_policy_document.function[each.key].json
}

resource "aws_iam_role_policy" "destination" {
  for_each = merge([
    for key, function in local.functions : { for part in function.destination : "${key}/${part}" => {
      function = key
      part     = part
    } }
  ]...)

  name   = "destination-${each.value.part}"
  role   = aws_iam_role.function[each.value.function].id
  policy = var.destination_policies[each.value.part]
}
