variable "name" {
  description = "What all names here begin with, and the dimension `service` of the metrics."
  type        = string
  default     = "commandstore-sync"
  nullable    = false

  validation {
    # With "-copy-range" and the like behind it, a role's name has 64 characters at most.
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_-]{0,47}$", var.name))
    error_message = "name has up to 48 letters, digits, '_' and '-', and begins with a letter."
  }
}

# The code

variable "package_path" {
  description = "The zip with the functions' code, as infra/package.py makes it, for the same architecture."
  type        = string
  nullable    = false

  validation {
    condition     = endswith(var.package_path, ".zip")
    error_message = "package_path is the path of a .zip."
  }
}

variable "architecture" {
  description = "arm64 or x86_64."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is arm64 or x86_64."
  }
}

variable "runtime" {
  description = "Lambda's name of the Python that the package was made for."
  type        = string
  default     = "python3.12"
  nullable    = false

  validation {
    condition     = can(regex("^python3\\.(1[1-9]|[2-9][0-9])$", var.runtime))
    error_message = "runtime is python3.11 or newer."
  }
}

# Source and destination

variable "source_secret_arn" {
  description = "The secret in Secrets Manager that holds the source's database URL: this, or source_parameter_arn."
  type        = string
  default     = null

  validation {
    condition     = (var.source_secret_arn == null) != (var.source_parameter_arn == null)
    error_message = "Give exactly one of source_secret_arn and source_parameter_arn."
  }

  validation {
    condition     = var.source_secret_arn == null || can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:[^*?]+$", var.source_secret_arn))
    error_message = "source_secret_arn is the full ARN of a secret, without wildcards."
  }
}

variable "source_secret_key" {
  description = "Under which key the URL lies, where the secret is a JSON object and the key is not \"url\"."
  type        = string
  default     = null

  validation {
    condition     = var.source_secret_key == null || var.source_secret_key != ""
    error_message = "source_secret_key is not empty."
  }

  validation {
    condition     = var.source_secret_key == null || var.source_secret_arn != null
    error_message = "source_secret_key is for a secret: give source_secret_arn with it."
  }
}

variable "source_parameter_arn" {
  description = "The SecureString parameter of SSM that holds the source's database URL: this, or source_secret_arn."
  type        = string
  default     = null

  validation {
    condition     = var.source_parameter_arn == null || can(regex("^arn:[^:]+:ssm:[^:]+:[0-9]{12}:parameter/[A-Za-z0-9_./-]+$", var.source_parameter_arn))
    error_message = "source_parameter_arn is the full ARN of a parameter, without wildcards."
  }
}

variable "source_kms_key_arn" {
  description = "The KMS key that encrypts the secrets and the parameter; null: the keys that AWS keeps for these services."
  type        = string
  default     = null

  validation {
    condition     = var.source_kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.source_kms_key_arn))
    error_message = "source_kms_key_arn is the ARN of a key (not of an alias), or null."
  }
}

variable "source_name" {
  description = "What the checkpoint knows the source by. It stays the same when the database moves to another host or user."
  type        = string
  nullable    = false

  validation {
    condition     = length(trimspace(var.source_name)) > 0
    error_message = "source_name is not empty."
  }
}

variable "destination_url" {
  description = "The store to copy to: the output store_url of aws-store-dynamodb or aws-store-s3."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(dynamodb|s3)://[^@]+$", var.destination_url))
    error_message = "destination_url begins with dynamodb:// or s3://, and holds no credentials."
  }
}

variable "destination_policies" {
  description = "What the functions may do in the destination: the output policies of aws-store-dynamodb or aws-store-s3."
  type = object({
    writer   = string
    reader   = string
    register = string
  })
  nullable = false
}

# What is copied, and how. Null takes the default of the code.

variable "tenant_uuid" {
  description = "Copy this tenant's commands only. Such a sync has a checkpoint of its own."
  type        = string
  default     = null
}

variable "batch_size" {
  description = "How many commands are read, and written, at once."
  type        = number
  default     = null

  validation {
    condition     = var.batch_size == null || try(var.batch_size >= 1 && floor(var.batch_size) == var.batch_size, false)
    error_message = "batch_size is a whole number from 1 on."
  }
}

variable "concurrency" {
  description = "How many batches are written at once."
  type        = number
  default     = null

  validation {
    condition     = var.concurrency == null || try(var.concurrency >= 1 && floor(var.concurrency) == var.concurrency, false)
    error_message = "concurrency is a whole number from 1 on."
  }
}

variable "skip_on_error" {
  description = "Park commands that can't be copied, and go on, instead of stopping before the first one."
  type        = bool
  default     = null
}

variable "lag" {
  description = "For sources without a sequence: how late a command may be committed, in the unit of created_at."
  type        = number
  default     = null

  validation {
    condition     = var.lag == null || try(var.lag >= 0, false)
    error_message = "lag is not negative."
  }
}

variable "lease_seconds" {
  description = "After how many seconds another run may take over from one that died."
  type        = number
  default     = null

  validation {
    condition     = var.lease_seconds == null || try(var.lease_seconds > 0, false)
    error_message = "lease_seconds is greater than 0."
  }
}

variable "verify_hours" {
  description = "How many hours back the scheduled verification looks."
  type        = number
  default     = null

  validation {
    condition     = var.verify_hours == null || try(var.verify_hours > 0, false)
    error_message = "verify_hours is greater than 0."
  }
}

# When

variable "schedule" {
  description = "When the sync runs, as EventBridge Scheduler has it: rate(...) or cron(...)."
  type        = string
  default     = "rate(5 minutes)"
  nullable    = false

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.schedule))
    error_message = "schedule is like rate(5 minutes) or cron(0/5 * * * ? *)."
  }
}

variable "verify_schedule" {
  description = "When source and destination are compared; null: never."
  type        = string
  default     = "cron(20 2 * * ? *)"

  validation {
    condition     = var.verify_schedule == null || can(regex("^(rate|cron)\\(.+\\)$", var.verify_schedule))
    error_message = "verify_schedule is like cron(20 2 * * ? *), or null."
  }
}

variable "schedule_enabled" {
  description = "Whether the schedules run. False: until a first backfill is done, for one."
  type        = bool
  default     = true
  nullable    = false
}

# The functions

variable "sync_timeout_seconds" {
  description = "How long a run of the sync may take. It stops in time before that, and the next run goes on. Shorter than the schedule's interval."
  type        = number
  default     = 280
  nullable    = false

  validation {
    condition     = var.sync_timeout_seconds >= 30 && var.sync_timeout_seconds <= 900 && floor(var.sync_timeout_seconds) == var.sync_timeout_seconds
    error_message = "sync_timeout_seconds is a whole number from 30 to 900."
  }
}

variable "memory_mb" {
  description = "Memory of each function. The share of a CPU grows with it."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = var.memory_mb >= 256 && var.memory_mb <= 10240 && floor(var.memory_mb) == var.memory_mb
    error_message = "memory_mb is a whole number from 256 to 10240."
  }
}

variable "reserved_concurrency" {
  description = "How many of each function may run at once, taken from the account's pool; null: no limit of its own. Two of the sync, as a second one ends at once, saying so, where a throttled one would raise an alarm. copy_range bounds a backfill's connections to the source."
  type = object({
    sync       = optional(number, 2)
    verify     = optional(number, 1)
    plan       = optional(number, 1)
    copy_range = optional(number, 10)
    finish     = optional(number, 1)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for value in values(var.reserved_concurrency) : value == null || try(value >= 1 && floor(value) == value, false)])
    error_message = "Each value of reserved_concurrency is a whole number from 1 on, or null."
  }
}

variable "vpc" {
  description = "Where the functions run, to reach a source in a VPC or behind a VPN; null: outside. The subnets need a way to DynamoDB or S3, Secrets Manager or SSM: a NAT gateway, or endpoints."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null

  validation {
    condition     = var.vpc == null || try(length(var.vpc.subnet_ids) > 0 && length(var.vpc.security_group_ids) > 0, false)
    error_message = "vpc names at least one subnet and one security group."
  }
}

variable "permissions_boundary_arn" {
  description = "A permissions boundary for the roles; null: none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[^:]+:iam::[^:]*:policy/.+$", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn is the ARN of a policy, or null."
  }
}

variable "kms_key_arn" {
  description = "A KMS key of one's own for the functions' environment, their logs and the failure queue; null: AWS's keys. Its policy must let logs.REGION.amazonaws.com use it."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key (not of an alias), or null."
  }
}

# The backfill

variable "create_backfill" {
  description = "Make the functions and the state machine that copy a large source for the first time."
  type        = bool
  default     = true
  nullable    = false
}

variable "backfill_definition_file" {
  description = "The state machine's definition; null: infra/backfill.asl.json, beside these modules."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags for all that is made."
  type        = map(string)
  default     = {}
  nullable    = false
}
