output "store_url" {
  description = "The store's URL."
  value       = module.firestore.store_url
}

output "service_account_email" {
  description = "The account that may write."
  value       = module.firestore.service_account_email
}
