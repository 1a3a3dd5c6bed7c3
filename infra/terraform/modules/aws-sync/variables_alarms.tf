# Logs, metrics, alarms

variable "log_level" {
  description = "DEBUG, INFO, WARNING or ERROR."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "log_level is DEBUG, INFO, WARNING or ERROR."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept. 0: for ever."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition = contains(
      [0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days,
    )
    error_message = "log_retention_days is one of CloudWatch's: 0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, ..."
  }
}

variable "metrics_namespace" {
  description = "The CloudWatch namespace of the metrics."
  type        = string
  default     = "commandstore"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_./#-]{1,255}$", var.metrics_namespace)) && !startswith(var.metrics_namespace, "AWS/")
    error_message = "metrics_namespace has up to 255 letters, digits and '_./#-', and does not begin with AWS/."
  }
}

variable "create_alarms" {
  description = "Make the alarms, and a topic for them unless alarm_topic names one."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_topic" {
  description = "The SNS topic that alarms go to; null: one is made. An object, so that its ARN need not be known when Terraform plans."
  type        = object({ arn = string })
  default     = null

  validation {
    condition     = var.alarm_topic == null || can(regex("^arn:[^:]+:sns:[^:]+:[0-9]{12}:.+$", var.alarm_topic.arn))
    error_message = "alarm_topic.arn is the ARN of a topic."
  }
}

variable "alarm_emails" {
  description = "Who gets mail of the topic that is made. Each address has to be confirmed."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.alarm_emails) == 0 || (var.create_alarms && var.alarm_topic == null)
    error_message = "alarm_emails is for the topic that is made here: not with alarm_topic, nor without create_alarms."
  }

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "alarm_emails holds addresses."
  }
}

variable "lag_alarm_seconds" {
  description = "How far behind the destination may be before there is an alarm."
  type        = number
  default     = 1800
  nullable    = false

  validation {
    condition     = var.lag_alarm_seconds > 0
    error_message = "lag_alarm_seconds is greater than 0."
  }
}
