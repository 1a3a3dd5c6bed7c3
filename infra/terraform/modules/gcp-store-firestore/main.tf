locals {
  # What Firebase's tools take as well: one file says which indexes the code needs.
  indexes_file = coalesce(var.indexes_file, "${path.module}/../../../firestore.indexes.json")
  indexes      = jsondecode(file(local.indexes_file))

  # The file is written for the collection "commands"; "parts" are subcollections of its documents.
  groups = { commands = var.collection }

  composites = {
    for index in local.indexes.indexes :
    join(",", concat(
      [index.collectionGroup],
      [for field in index.fields : "${field.fieldPath} ${field.order}"],
    )) => index
  }
  exempt = {
    for field in local.indexes.fieldOverrides :
    "${field.collectionGroup},${field.fieldPath}" => field if length(field.indexes) == 0
  }
}

resource "google_firestore_database" "this" {
  project     = var.project
  name        = var.database
  location_id = var.location
  type        = "FIRESTORE_NATIVE"

  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"

  # Without it, `destroy` would only forget the database. The protection above is what keeps it.
  deletion_policy = "DELETE"

  dynamic "cmek_config" {
    for_each = var.kms_key_name == null ? [] : [var.kms_key_name]
    content {
      kms_key_name = cmek_config.value
    }
  }
}

resource "google_firestore_index" "this" {
  for_each = local.composites

  project     = var.project
  database    = google_firestore_database.this.name
  collection  = lookup(local.groups, each.value.collectionGroup, each.value.collectionGroup)
  query_scope = each.value.queryScope

  # Firestore appends __name__ itself, and the provider knows it.
  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = fields.value.fieldPath
      order      = fields.value.order
    }
  }
}

# An index on a field that grows with time takes 500 writes a second, and one on a payload has a limit of its own.
resource "google_firestore_field" "exempt" {
  for_each = local.exempt

  project    = var.project
  database   = google_firestore_database.this.name
  collection = lookup(local.groups, each.value.collectionGroup, each.value.collectionGroup)
  field      = each.value.fieldPath

  # Empty: no index of this field alone.
  index_config {}
}
