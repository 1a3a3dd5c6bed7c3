variable "project" {
  description = "The project's id."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is a project's id: 6 to 30 lower-case letters, digits and '-'."
  }
}

variable "location" {
  description = "Where the database lies, as eur3 or europe-west3. Fixed once it is made."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+[a-z0-9-]*[0-9]$", var.location))
    error_message = "location is like eur3 or europe-west3."
  }
}

variable "database" {
  description = "The database's id. A name of its own, so that nothing else lies in it."
  type        = string
  default     = "commands"
  nullable    = false

  validation {
    condition     = var.database == "(default)" || can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.database))
    error_message = "database is (default), or 4 to 63 lower-case letters, digits and '-'."
  }
}

variable "collection" {
  description = "The collection that holds the commands."
  type        = string
  default     = "commands"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_-]*$", var.collection)) && var.collection != "parts"
    error_message = "collection has letters, digits, '_' and '-', begins with a letter, and is not parts."
  }
}

variable "indexes_file" {
  description = "The indexes, as Firebase's tools have them; null: infra/firestore.indexes.json, beside these modules."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Refuse to delete the database. To destroy it, apply false first."
  type        = bool
  default     = true
  nullable    = false
}

variable "point_in_time_recovery" {
  description = "Keep versions of the last seven days, any minute of which can be read or exported."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_name" {
  description = "A KMS key of one's own (projects/.../cryptoKeys/...), which the Firestore service agent may use; null: Google's."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_name == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key_name))
    error_message = "kms_key_name is like projects/P/locations/L/keyRings/R/cryptoKeys/K, or null."
  }
}

variable "service_account_id" {
  description = "Make a service account of this id that may write; null: none is made."
  type        = string
  default     = null

  validation {
    condition     = var.service_account_id == null || can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.service_account_id))
    error_message = "service_account_id has 6 to 30 lower-case letters, digits and '-', or is null."
  }
}

variable "writer_members" {
  description = "Who else may read and write, as serviceAccount:NAME@PROJECT.iam.gserviceaccount.com."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.writer_members : can(regex("^[a-zA-Z]+:.+$", member)) && !startswith(member, "allU") && !startswith(member, "allA")])
    error_message = "writer_members are like serviceAccount:... or group:..., never everybody."
  }
}

variable "reader_members" {
  description = "Who may only read, likewise."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.reader_members : can(regex("^[a-zA-Z]+:.+$", member)) && !startswith(member, "allU") && !startswith(member, "allA")])
    error_message = "reader_members are like serviceAccount:... or group:..., never everybody."
  }
}
