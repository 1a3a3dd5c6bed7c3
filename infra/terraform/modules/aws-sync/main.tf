# What is used in more than one place. Topics: functions.tf, iam.tf, schedule.tf, backfill.tf, alarms.tf.

locals {
  # arn:PARTITION:sqs:REGION:ACCOUNT:NAME
  place     = split(":", aws_sqs_queue.failures.arn)
  partition = local.place[1]
  region    = local.place[3]
  account   = local.place[4]

  keys_secrets = distinct(compact([var.source_keys_secret_arn, var.destination_keys_secret_arn]))
  # Who asks the key of the secrets and the parameter.
  secret_services = compact([
    var.source_parameter_arn == null ? "" : "ssm",
    var.source_secret_arn == null && length(local.keys_secrets) == 0 ? "" : "secretsmanager",
  ])

  scheduled = {
    sync = {
      handler     = "handler"
      timeout     = var.sync_timeout_seconds
      concurrency = var.reserved_concurrency.sync
      # Reading, because an event may ask to verify after copying.
      destination = ["writer", "reader"]
      payloads    = ["kms:Decrypt", "kms:GenerateDataKey"]
      signs       = true
    }
    verify = {
      handler     = "verify_handler"
      timeout     = 900
      concurrency = var.reserved_concurrency.verify
      destination = ["reader"]
      payloads    = ["kms:Decrypt"]
      signs       = false
    }
  }
  backfill = {
    plan = {
      handler     = "plan_handler"
      timeout     = 900
      concurrency = var.reserved_concurrency.plan
      destination = ["register"]
      payloads    = []
      signs       = false
    }
    copy_range = {
      handler     = "copy_range_handler"
      timeout     = 900
      concurrency = var.reserved_concurrency.copy_range
      destination = ["writer"]
      payloads    = ["kms:Decrypt", "kms:GenerateDataKey"]
      signs       = true
    }
    finish = {
      handler     = "finish_handler"
      timeout     = 900
      concurrency = var.reserved_concurrency.finish
      destination = ["register"]
      payloads    = []
      signs       = false
    }
  }
  functions = merge(local.scheduled, var.create_backfill ? local.backfill : {})

  function_names = { for key in keys(local.functions) : key => "${var.name}-${replace(key, "_", "-")}" }

  # Made from the names, for what must be there before the functions are.
  function_arns = {
    for key, name in local.function_names :
    key => "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${name}"
  }
}
