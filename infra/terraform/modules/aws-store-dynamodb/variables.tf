variable "name" {
  description = "The table's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.name))
    error_message = "name has 3 to 255 letters, digits, '_', '-' and '.'."
  }
}

variable "tenant_shards" {
  description = "Into how many partitions a tenant's part of the index by_tenant is spread. Fixed once the table is made."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.tenant_shards >= 1 && var.tenant_shards <= 256 && floor(var.tenant_shards) == var.tenant_shards
    error_message = "tenant_shards is a whole number from 1 to 256."
  }
}

variable "time_shards" {
  description = "Into how many partitions the index by_time is spread; each takes 1,000 writes a second. Fixed once the table is made."
  type        = number
  default     = 16
  nullable    = false

  validation {
    condition     = var.time_shards >= 1 && var.time_shards <= 256 && floor(var.time_shards) == var.time_shards
    error_message = "time_shards is a whole number from 1 to 256."
  }
}

variable "create_settings" {
  description = "Write the item with the store's settings. False for a table that has it already: one that was imported, or restored."
  type        = bool
  default     = true
  nullable    = false
}

variable "deletion_protection" {
  description = "Refuse to delete the table. To destroy it, apply false first."
  type        = bool
  default     = true
  nullable    = false
}

variable "point_in_time_recovery" {
  description = "Continuous backups: any second of the last 35 days can be restored."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = "A KMS key of one's own to encrypt the table with; null: the key that AWS owns."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key (not of an alias), or null."
  }
}

variable "tags" {
  description = "Tags for the table."
  type        = map(string)
  default     = {}
  nullable    = false
}
