output "bucket_name" {
  description = "The bucket's name."
  value       = aws_s3_bucket.this.id
}

output "bucket_arn" {
  description = "The bucket's ARN."
  value       = local.bucket_arn
}

output "store_url" {
  description = "The store's URL. `commandstore init` with it, once, before the first sync."
  value       = "s3://${aws_s3_bucket.this.id}${var.prefix == "" ? "" : "/${var.prefix}"}?region=${local.region}"

  # Nothing is to be written before the bucket keeps its versions and refuses what it should.
  depends_on = [
    aws_s3_bucket_versioning.this,
    aws_s3_bucket_policy.this,
    aws_s3_bucket_ownership_controls.this,
    aws_s3_bucket_server_side_encryption_configuration.this,
    aws_s3_bucket_object_lock_configuration.this,
  ]
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
  description = "IAM policy: checkpoints and leases, no commands; for a backfill's first and last step."
  value       = data.aws_iam_policy_document.this["register"].json
}

output "policies" {
  description = "The three policies, as the module aws-sync takes them."
  value       = { for role, document in data.aws_iam_policy_document.this : role => document.json }
}
