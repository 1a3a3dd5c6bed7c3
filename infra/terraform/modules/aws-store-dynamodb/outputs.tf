output "table_name" {
  description = "The table's name."
  value       = aws_dynamodb_table.this.name
}

output "table_arn" {
  description = "The table's ARN."
  value       = local.table_arn
}

output "index_arns" {
  description = "The ARNs of the table's two indexes."
  value       = local.index_arns
}

output "store_url" {
  description = "The store's URL, once its settings are written."
  value       = "dynamodb://${aws_dynamodb_table.this.name}?region=${local.region}"

  depends_on = [aws_dynamodb_table_item.settings]
}

output "writer_policy_json" {
  description = "IAM policy: what a sync does with its destination, and no more."
  value       = data.aws_iam_policy_document.this["writer"].json
}

output "reader_policy_json" {
  description = "IAM policy: get, list, scan, total, info; for applications that only read, and to verify."
  value       = data.aws_iam_policy_document.this["reader"].json
}

output "register_policy_json" {
  description = "IAM policy: checkpoints and leases (DynamoDB cannot tell them from commands); for a backfill's first and last step."
  value       = data.aws_iam_policy_document.this["register"].json
}

output "policies" {
  description = "The three policies, as the module aws-sync takes them."
  value       = { for role, document in data.aws_iam_policy_document.this : role => document.json }
}
