# A ledger of what is written to the destination, and encrypted payloads

variable "ledger_key_arn" {
  description = "The asymmetric KMS key (ECC_NIST_P256, for SIGN_VERIFY) that signs the entries of the destination's ledger; null: it keeps none."
  type        = string
  default     = null

  validation {
    condition     = var.ledger_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.ledger_key_arn))
    error_message = "ledger_key_arn is the ARN of a key (not of an alias), or null."
  }
}

variable "source_keys_secret_arn" {
  description = "The secret that holds the key file for the source's payloads; null: they are copied as they are."
  type        = string
  default     = null

  validation {
    condition     = var.source_keys_secret_arn == null || can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:[^*?]+$", var.source_keys_secret_arn))
    error_message = "source_keys_secret_arn is the full ARN of a secret, without wildcards, or null."
  }
}

variable "destination_keys_secret_arn" {
  description = "The secret that holds the key file for the destination's payloads; null: they are not encrypted there."
  type        = string
  default     = null

  validation {
    condition     = var.destination_keys_secret_arn == null || can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:[^*?]+$", var.destination_keys_secret_arn))
    error_message = "destination_keys_secret_arn is the full ARN of a secret, without wildcards, or null."
  }
}

variable "payload_kms_key_arn" {
  description = "The KMS key that these key files name, where they are for keys in KMS; null: they hold their keys themselves."
  type        = string
  default     = null

  validation {
    condition     = var.payload_kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.payload_kms_key_arn))
    error_message = "payload_kms_key_arn is the ARN of a key (not of an alias), or null."
  }
}
