variable "project" {
  description = "The project's id. Firestore's API is enabled in it: gcloud services enable firestore.googleapis.com"
  type        = string
  nullable    = false
}

variable "location" {
  description = "Where the database lies."
  type        = string
  default     = "eur3"
  nullable    = false
}

variable "reader_members" {
  description = "Who may only read."
  type        = set(string)
  default     = []
  nullable    = false
}
