locals {
  # "(default)" or a name; permissions are given for this database, not for all of the project.
  this_database = {
    title       = "commandstore-${replace(replace(var.database, "(", ""), ")", "")}"
    description = "Only the database ${var.database}."
    expression  = "resource.name == \"projects/${var.project}/databases/${var.database}\""
  }

  # Known when Terraform plans, unlike the address of the account that is made here.
  writers = merge(
    { for member in var.writer_members : member => member },
    var.service_account_id == null ? {} : { service_account = "serviceAccount:${google_service_account.writer[0].email}" },
  )
}

resource "google_service_account" "writer" {
  count = var.service_account_id == null ? 0 : 1

  project      = var.project
  account_id   = var.service_account_id
  display_name = "commandstore: writes commands to ${var.database}"
}

resource "google_project_iam_member" "writer" {
  for_each = local.writers

  project = var.project
  role    = "roles/datastore.user"
  member  = each.value

  condition {
    title       = local.this_database.title
    description = local.this_database.description
    expression  = local.this_database.expression
  }

  depends_on = [google_firestore_database.this]
}

resource "google_project_iam_member" "reader" {
  for_each = var.reader_members

  project = var.project
  role    = "roles/datastore.viewer"
  member  = each.value

  condition {
    title       = local.this_database.title
    description = local.this_database.description
    expression  = local.this_database.expression
  }

  depends_on = [google_firestore_database.this]
}
