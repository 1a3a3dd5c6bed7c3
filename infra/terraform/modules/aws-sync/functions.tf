locals {
  # An unset variable is left out: the function then takes the default of the code.
  environment = { for key, value in {
    COMMANDSTORE_SOURCE_SECRET           = var.source_secret_arn
    COMMANDSTORE_SOURCE_SECRET_KEY       = var.source_secret_key
    COMMANDSTORE_SOURCE_PARAMETER        = var.source_parameter_arn
    COMMANDSTORE_SOURCE_KEYS_SECRET      = var.source_keys_secret_arn
    COMMANDSTORE_SOURCE_NAME             = var.source_name
    COMMANDSTORE_DESTINATION             = var.destination_url
    COMMANDSTORE_DESTINATION_KEYS_SECRET = var.destination_keys_secret_arn
    COMMANDSTORE_LEDGER_KEY              = var.ledger_key_arn
    COMMANDSTORE_TENANT_UUID             = var.tenant_uuid
    COMMANDSTORE_BATCH_SIZE              = var.batch_size
    COMMANDSTORE_CONCURRENCY             = var.concurrency
    COMMANDSTORE_SKIP_ON_ERROR           = var.skip_on_error
    COMMANDSTORE_LAG                     = var.lag
    COMMANDSTORE_LEASE_SECONDS           = var.lease_seconds
    COMMANDSTORE_VERIFY_HOURS            = var.verify_hours
    COMMANDSTORE_METRICS_NAMESPACE       = var.metrics_namespace
    POWERTOOLS_SERVICE_NAME              = var.name
    POWERTOOLS_LOG_LEVEL                 = var.log_level
  } : key => tostring(value) if value != null }
}

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.functions

  name              = "/aws/lambda/${local.function_names[each.key]}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_lambda_function" "this" {
  for_each = local.functions

  function_name = local.function_names[each.key]
  description   = "commandstore: ${each.key}"
  role          = aws_iam_role.function[each.key].arn

  filename         = var.package_path
  source_code_hash = filebase64sha256(var.package_path)
  handler          = "commandstore.entrypoints.aws_lambda.${each.value.handler}"
  runtime          = var.runtime
  architectures    = [var.architecture]

  memory_size                    = var.memory_mb
  timeout                        = each.value.timeout
  reserved_concurrent_executions = coalesce(each.value.concurrency, -1)
  kms_key_arn                    = var.kms_key_arn

  environment {
    variables = local.environment
  }

  dynamic "vpc_config" {
    for_each = var.vpc == null ? [] : [var.vpc]
    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  tags = var.tags

  # A function without its log group would make one that never forgets; one without its permissions would fail.
  depends_on = [
    aws_cloudwatch_log_group.function,
    aws_iam_role_policy.function,
    aws_iam_role_policy.destination,
  ]
}

# The next schedule is the retry, and what failed is told once, with the reason.
resource "aws_lambda_function_event_invoke_config" "this" {
  for_each = local.scheduled

  function_name          = aws_lambda_function.this[each.key].function_name
  maximum_retry_attempts = 0
  # A throttled invocation would otherwise be tried for six hours, beside all that come after it.
  maximum_event_age_in_seconds = 300

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failures.arn
    }
  }
}

resource "aws_sqs_queue" "failures" {
  name                      = "${var.name}-failures"
  message_retention_seconds = 1209600 # 14 days, the most there is
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn
  tags                      = var.tags
}
