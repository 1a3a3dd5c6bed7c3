locals {
  make_topic = var.create_alarms && var.alarm_topic == null
  topic_arn  = !var.create_alarms ? null : local.make_topic ? aws_sns_topic.alarms[0].arn : var.alarm_topic.arn

  service = { service = var.name }

  # What missing data means is said for each: a lag that nobody reports is itself the alarm; no errors is no news.
  alarms = merge(
    {
      lag = {
        description = "The destination is more than ${var.lag_alarm_seconds} s behind, or no sync has ended for half an hour."
        namespace   = var.metrics_namespace
        metric      = "LagSeconds"
        dimensions  = local.service
        statistic   = "Maximum"
        threshold   = var.lag_alarm_seconds
        period      = 900
        periods     = 2
        missing     = "breaching"
      }
      failed = {
        description = "Commands could not be copied. The log of ${local.function_names["sync"]} names them."
        namespace   = var.metrics_namespace
        metric      = "Failed"
        dimensions  = local.service
        statistic   = "Sum"
        threshold   = 0
        period      = 300
        periods     = 1
        missing     = "notBreaching"
      }
      conflicts = {
        description = "Commands are in the destination with other content. Somebody changed one of the two."
        namespace   = var.metrics_namespace
        metric      = "Conflicts"
        dimensions  = local.service
        statistic   = "Sum"
        threshold   = 0
        period      = 300
        periods     = 1
        missing     = "notBreaching"
      }
      failure_queue = {
        description = "Invocations that failed lie in ${aws_sqs_queue.failures.name}, each with its reason."
        namespace   = "AWS/SQS"
        metric      = "ApproximateNumberOfMessagesVisible"
        dimensions  = { QueueName = aws_sqs_queue.failures.name }
        statistic   = "Maximum"
        threshold   = 0
        period      = 300
        periods     = 1
        missing     = "notBreaching"
      }
    },
    {
      # Those of a backfill are tried again by its state machine, which has an alarm of its own.
      for key in keys(local.scheduled) : "${key}_errors" => {
        description = "${local.function_names[key]} failed. Its log says why."
        namespace   = "AWS/Lambda"
        metric      = "Errors"
        dimensions  = { FunctionName = local.function_names[key] }
        statistic   = "Sum"
        threshold   = 0
        period      = 300
        # One failed sync is mended by the next; two of three are not. A failed verification is told at once.
        periods    = key == "sync" ? 3 : 1
        datapoints = key == "sync" ? 2 : 1
        missing    = "notBreaching"
      }
    },
    {
      for key in keys(local.scheduled) : "${key}_throttles" => {
        description = "${local.function_names[key]} was not started: its concurrency, or the account's, is used up."
        namespace   = "AWS/Lambda"
        metric      = "Throttles"
        dimensions  = { FunctionName = local.function_names[key] }
        statistic   = "Sum"
        threshold   = 0
        period      = 300
        periods     = 1
        missing     = "notBreaching"
      }
    },
    var.create_backfill ? {
      backfill = {
        description = "An execution of ${local.state_machine_name} failed. Redrive it: what is copied stays."
        namespace   = "AWS/States"
        metric      = "ExecutionsFailed"
        dimensions  = { StateMachineArn = local.state_machine_arn }
        statistic   = "Sum"
        threshold   = 0
        period      = 300
        periods     = 1
        missing     = "notBreaching"
      }
    } : {},
  )
}

# Not encrypted by the key that AWS keeps for SNS, with which alarms could not be sent. They hold names and numbers.
resource "aws_sns_topic" "alarms" {
  count = local.make_topic ? 1 : 0

  name = "${var.name}-alarms"
  tags = var.tags
}

resource "aws_sns_topic_subscription" "email" {
  for_each = local.make_topic ? var.alarm_emails : toset([])

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = { for key, alarm in local.alarms : key => alarm if var.create_alarms }

  alarm_name          = "${var.name}-${replace(each.key, "_", "-")}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = lookup(each.value, "datapoints", null)
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = each.value.missing
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = var.tags
}

# One for the three kinds of differences.
resource "aws_cloudwatch_metric_alarm" "verify_differences" {
  count = var.create_alarms ? 1 : 0

  alarm_name          = "${var.name}-verify-differences"
  alarm_description   = "Source and destination differ. The log of ${local.function_names["verify"]} names the commands."
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = var.tags

  metric_query {
    id          = "differences"
    expression  = "FILL(missing, 0) + FILL(extra, 0) + FILL(altered, 0)"
    label       = "Missing, extra and altered commands"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = toset(["Missing", "Extra", "Altered"])
    content {
      id = lower(metric_query.value)

      metric {
        namespace   = var.metrics_namespace
        metric_name = metric_query.value
        dimensions  = local.service
        stat        = "Sum"
        period      = 300
      }
    }
  }
}
