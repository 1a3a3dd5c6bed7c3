variable "region" {
  description = "The AWS region."
  type        = string
  default     = "eu-central-1"
  nullable    = false
}

variable "name" {
  description = "The table's name, and what other names begin with."
  type        = string
  default     = "commands"
  nullable    = false
}

variable "package_path" {
  description = "The zip with the functions' code, as infra/package.py makes it."
  type        = string
  nullable    = false
}

variable "architecture" {
  description = "What the zip was made for: arm64 or x86_64."
  type        = string
  default     = "arm64"
  nullable    = false
}

variable "source_name" {
  description = "What the checkpoints know the source by."
  type        = string
  default     = "app"
  nullable    = false
}

variable "bucket" {
  description = "A bucket to copy to as well; null: only the table."
  type        = string
  default     = null
}

variable "vpc" {
  description = "The subnets and security groups from which the database can be reached."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null
}

variable "protect" {
  description = "Refuse to destroy what holds data. False for a trial."
  type        = bool
  default     = true
  nullable    = false
}

variable "schedule_enabled" {
  description = "Whether the schedules run."
  type        = bool
  default     = true
  nullable    = false
}

variable "create_backfill" {
  description = "Make the state machine for a large source's first copy."
  type        = bool
  default     = true
  nullable    = false
}

variable "create_alarms" {
  description = "Make the alarms and their topic."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_emails" {
  description = "Who gets mail of the alarms."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "tags" {
  description = "Tags for everything."
  type        = map(string)
  default     = { application = "commandstore" }
  nullable    = false
}

variable "endpoint_url" {
  description = "An emulator's address, as http://127.0.0.1:4566; null: AWS."
  type        = string
  default     = null

  validation {
    condition     = var.endpoint_url == null || can(regex("^https?://[^/]+$", var.endpoint_url))
    error_message = "endpoint_url is like http://127.0.0.1:4566, or null."
  }
}
