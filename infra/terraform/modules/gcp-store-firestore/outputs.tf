output "database" {
  description = "The database's id."
  value       = google_firestore_database.this.name
}

output "store_url" {
  description = "The store's URL, once its indexes are built."
  value       = "firestore://${var.project}/${var.collection}?database=${google_firestore_database.this.name}"

  depends_on = [google_firestore_index.this, google_firestore_field.exempt]
}

output "service_account_email" {
  description = "The address of the service account that was made; null without one."
  value       = one(google_service_account.writer[*].email)
}
