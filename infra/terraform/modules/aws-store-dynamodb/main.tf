# The table as `commandstore init` makes it. A test compares the two.
resource "aws_dynamodb_table" "this" {
  name         = var.name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "uuid"
  range_key    = "part"

  deletion_protection_enabled = var.deletion_protection

  dynamic "attribute" {
    for_each = ["uuid", "part", "time_shard", "tenant_shard", "position"]
    content {
      name = attribute.value
      type = "S"
    }
  }

  # The filters, and the size, so that a page is cut before it is read.
  global_secondary_index {
    name               = "by_time"
    hash_key           = "time_shard"
    range_key          = "position"
    projection_type    = "INCLUDE"
    non_key_attributes = ["tenant_uuid", "workspace_uuid", "domain", "session_uuid", "data_type", "payload_bytes"]
  }

  global_secondary_index {
    name               = "by_tenant"
    hash_key           = "tenant_shard"
    range_key          = "position"
    projection_type    = "INCLUDE"
    non_key_attributes = ["workspace_uuid", "domain", "session_uuid", "data_type", "payload_bytes"]
  }

  point_in_time_recovery {
    enabled = var.point_in_time_recovery
  }

  # Without a key of one's own: the key that AWS owns. DynamoDB encrypts in any case.
  dynamic "server_side_encryption" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }

  tags = var.tags
}

# What `commandstore init` would write. The shard counts of a table never change once there are commands in it: another
# count would hide what was written under the first, so changed variables are not applied.
resource "aws_dynamodb_table_item" "settings" {
  count = var.create_settings ? 1 : 0

  table_name = aws_dynamodb_table.this.name
  hash_key   = "uuid"
  range_key  = "part"
  item = jsonencode({
    uuid          = { S = "commandstore" }
    part          = { S = "settings" }
    format        = { N = "1" }
    tenant_shards = { N = tostring(var.tenant_shards) }
    time_shards   = { N = tostring(var.time_shards) }
  })

  lifecycle {
    ignore_changes = [item]
  }
}
