variable "bucket" {
  description = "The bucket's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket has 3 to 63 lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit."
  }
}

variable "prefix" {
  description = "Under which prefix the store lies, without slashes at its ends. Several stores may share a bucket."
  type        = string
  default     = "commands"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)*$", var.prefix)) && !startswith(var.prefix, "/")
    error_message = "prefix has letters, digits, '_', '.', '-', and '/' between them."
  }
}

variable "noncurrent_days" {
  description = "After how many days a version that was replaced or removed goes for good: so long can a store be restored, and so long an erasure takes."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days is a whole number from 1 on."
  }
}

variable "object_lock" {
  description = "Keep every version for so many days, whoever wants to remove it: GOVERNANCE (who has the permission may) or COMPLIANCE (nobody may, not even the account's root). For a new bucket only. The store then refuses update, delete, reset and gc."
  type = object({
    mode = string
    days = number
  })
  default = null

  validation {
    condition     = var.object_lock == null || try(contains(["GOVERNANCE", "COMPLIANCE"], var.object_lock.mode), false)
    error_message = "object_lock.mode is GOVERNANCE or COMPLIANCE."
  }

  validation {
    condition     = var.object_lock == null || try(var.object_lock.days >= 1 && floor(var.object_lock.days) == var.object_lock.days, false)
    error_message = "object_lock.days is a whole number from 1 on."
  }
}

variable "force_destroy" {
  description = "Let `destroy` remove the bucket with all that is in it."
  type        = bool
  default     = false
  nullable    = false
}

variable "kms_key_arn" {
  description = "A KMS key of one's own to encrypt the objects with; null: the key that S3 owns."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key (not of an alias), or null."
  }
}

variable "tags" {
  description = "Tags for the bucket."
  type        = map(string)
  default     = {}
  nullable    = false
}
