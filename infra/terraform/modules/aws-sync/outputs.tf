output "function_names" {
  description = "The functions' names, by what they do: sync, verify, and for a backfill plan, copy_range, finish."
  value       = local.function_names
}

output "function_arns" {
  description = "The functions' ARNs, likewise."
  value       = { for key, function in aws_lambda_function.this : key => function.arn }
}

output "role_arns" {
  description = "The ARNs of the functions' roles, likewise: for key policies, database permissions, secrets of other accounts."
  value       = { for key, role in aws_iam_role.function : key => role.arn }
}

output "scheduler_role_arn" {
  description = "The ARN of the schedules' role."
  value       = aws_iam_role.scheduler.arn
}

output "state_machine_arn" {
  description = "The ARN of the backfill's state machine; null without one."
  value       = one(aws_sfn_state_machine.backfill[*].arn)
}

output "failure_queue_url" {
  description = "The URL of the queue that holds the invocations that failed."
  value       = aws_sqs_queue.failures.url
}

output "failure_queue_arn" {
  description = "That queue's ARN."
  value       = aws_sqs_queue.failures.arn
}

output "alarm_topic_arn" {
  description = "The ARN of the topic that alarms go to; null without alarms."
  value       = local.topic_arn
}

output "alarm_names" {
  description = "The alarms' names."
  value = sort(concat(
    [for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name],
    aws_cloudwatch_metric_alarm.verify_differences[*].alarm_name,
  ))
}

output "log_group_names" {
  description = "The log groups' names, by function."
  value       = { for key, group in aws_cloudwatch_log_group.function : key => group.name }
}
