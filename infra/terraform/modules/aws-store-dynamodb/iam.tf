# For roles that are made elsewhere: the functions of aws-sync, applications.

locals {
  table_arn  = aws_dynamodb_table.this.arn
  index_arns = [for name in ["by_time", "by_tenant"] : "${local.table_arn}/index/${name}"]
  # arn:aws:dynamodb:REGION:ACCOUNT:table/NAME
  region = split(":", local.table_arn)[3]

  actions = {
    # What every user of a store does first.
    open = ["dynamodb:DescribeTable", "dynamodb:GetItem"]
    # PartiQLInsert is what BatchExecuteStatement needs; BatchWriteItem is for the parts of long payloads.
    write = ["dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:PartiQLInsert", "dynamodb:PutItem"]
    read  = ["dynamodb:BatchGetItem"]
    # Checkpoints and leases.
    register = ["dynamodb:PutItem"]
  }
  roles = {
    writer   = { actions = concat(local.actions.open, local.actions.write), query = false }
    reader   = { actions = concat(local.actions.open, local.actions.read), query = true }
    register = { actions = concat(local.actions.open, local.actions.register), query = false }
  }
}

data "aws_iam_policy_document" "this" {
  for_each = local.roles

  statement {
    sid       = "Table"
    actions   = each.value.actions
    resources = [local.table_arn]
  }

  dynamic "statement" {
    for_each = each.value.query ? [local.index_arns] : []
    content {
      sid       = "TableIndexes"
      actions   = ["dynamodb:Query"]
      resources = statement.value
    }
  }

  # DynamoDB asks in the caller's name whether it may use the table's key.
  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      sid       = "TableKey"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["dynamodb.${local.region}.amazonaws.com"]
      }
    }
  }
}
