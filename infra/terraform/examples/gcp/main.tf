provider "google" {
  project = var.project
}

module "firestore" {
  source = "../../modules/gcp-store-firestore"

  project            = var.project
  location           = var.location
  service_account_id = "commandstore-writer"
  reader_members     = var.reader_members
}
