# For roles that are made elsewhere: the functions of aws-sync, applications.

locals {
  bucket_arn = aws_s3_bucket.this.arn
  region     = aws_s3_bucket.this.region
  root       = "${local.bucket_arn}/${var.prefix == "" ? "" : "${var.prefix}/"}"
  objects    = "${local.root}*"
  registers  = "${local.root}registers/*"

  # What a bulk insert tidies up along the way, and what the first run leaves of its look at the engine. Segments and
  # the manifest are not among it: nothing that counts can be removed by a sync.
  removable = [for place in ["inbox/", "conflicts/", "probe-"] : "${local.root}${place}*"]

  roles = {
    writer   = { put = local.objects, delete = true, key = ["kms:Decrypt", "kms:GenerateDataKey"] }
    reader   = { put = null, delete = false, key = ["kms:Decrypt"] }
    register = { put = local.registers, delete = false, key = ["kms:Decrypt", "kms:GenerateDataKey"] }
  }
}

data "aws_iam_policy_document" "this" {
  for_each = local.roles

  statement {
    sid       = "BucketGet"
    actions   = ["s3:GetObject"]
    resources = [local.objects]
  }

  # Without a condition on the prefix, with which S3 would answer 403 for every object that isn't there.
  statement {
    sid       = "BucketList"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]
  }

  dynamic "statement" {
    for_each = each.value.put == null ? [] : [each.value.put]
    content {
      sid       = "BucketPut"
      actions   = ["s3:PutObject"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = each.value.delete ? [local.removable] : []
    content {
      sid       = "BucketDelete"
      actions   = ["s3:DeleteObject"]
      resources = statement.value
    }
  }

  # S3 asks in the caller's name whether it may use the bucket's key.
  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      sid       = "BucketKey"
      actions   = each.value.key
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["s3.${local.region}.amazonaws.com"]
      }
    }
  }
}
