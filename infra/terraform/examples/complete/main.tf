# From a database whose URL lies in a secret to a DynamoDB table and, if wanted, to a bucket as well: a sync each.

provider "aws" {
  region = var.region

  default_tags {
    tags = var.tags
  }

  # For an emulator: every service at one address, with whatever credentials, and no questions who one is.
  access_key                  = var.endpoint_url == null ? null : "testing"
  secret_key                  = var.endpoint_url == null ? null : "testing"
  skip_credentials_validation = var.endpoint_url != null
  skip_metadata_api_check     = var.endpoint_url != null
  skip_requesting_account_id  = var.endpoint_url != null
  s3_use_path_style           = var.endpoint_url != null

  dynamic "endpoints" {
    for_each = var.endpoint_url == null ? [] : [var.endpoint_url]
    content {
      cloudwatch     = endpoints.value
      dynamodb       = endpoints.value
      iam            = endpoints.value
      lambda         = endpoints.value
      logs           = endpoints.value
      s3             = endpoints.value
      scheduler      = endpoints.value
      secretsmanager = endpoints.value
      sfn            = endpoints.value
      sns            = endpoints.value
      sqs            = endpoints.value
      sts            = endpoints.value
    }
  }
}

# Its value is set by hand or by another system, so that no password comes into Terraform's state:
#   aws secretsmanager put-secret-value --secret-id NAME --secret-string '{"url": "postgresql://..."}'
resource "aws_secretsmanager_secret" "source" {
  name                    = "${var.name}-source"
  description             = "The URL of the database that is copied, under the key \"url\"."
  recovery_window_in_days = var.protect ? 30 : 0
}

module "table" {
  source = "../../modules/aws-store-dynamodb"

  name                = var.name
  deletion_protection = var.protect
}

module "table_sync" {
  source = "../../modules/aws-sync"

  name                 = "${var.name}-sync"
  package_path         = var.package_path
  architecture         = var.architecture
  source_secret_arn    = aws_secretsmanager_secret.source.arn
  source_name          = var.source_name
  destination_url      = module.table.store_url
  destination_policies = module.table.policies
  vpc                  = var.vpc
  schedule_enabled     = var.schedule_enabled
  create_backfill      = var.create_backfill
  create_alarms        = var.create_alarms
  alarm_emails         = var.create_alarms ? var.alarm_emails : []
}

module "bucket" {
  source = "../../modules/aws-store-s3"
  count  = var.bucket == null ? 0 : 1

  bucket        = var.bucket
  force_destroy = !var.protect
}

module "bucket_sync" {
  source = "../../modules/aws-sync"
  count  = var.bucket == null ? 0 : 1

  name                 = "${var.name}-to-s3"
  package_path         = var.package_path
  architecture         = var.architecture
  source_secret_arn    = aws_secretsmanager_secret.source.arn
  source_name          = var.source_name
  destination_url      = module.bucket[0].store_url
  destination_policies = module.bucket[0].policies
  vpc                  = var.vpc
  schedule             = "rate(15 minutes)"
  schedule_enabled     = var.schedule_enabled
  create_backfill      = false
  create_alarms        = var.create_alarms
  alarm_topic          = var.create_alarms ? { arn = module.table_sync.alarm_topic_arn } : null
}
