output "table_name" {
  description = "The table's name."
  value       = module.table.table_name
}

output "store_urls" {
  description = "The stores' URLs, for the command line and for applications."
  value       = concat([module.table.store_url], module.bucket[*].store_url)
}

output "secret_arn" {
  description = "The secret that the database's URL belongs into."
  value       = aws_secretsmanager_secret.source.arn
}

output "function_names" {
  description = "The functions that copy to the table."
  value       = module.table_sync.function_names
}

output "state_machine_arn" {
  description = "The state machine of a backfill of the table."
  value       = module.table_sync.state_machine_arn
}

output "alarm_topic_arn" {
  description = "The topic that alarms go to."
  value       = module.table_sync.alarm_topic_arn
}
