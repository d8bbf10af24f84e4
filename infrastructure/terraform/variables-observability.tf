# When alarms go off, whom they call, and how far the service may grow.

variable "pager_topic_arn" {
  description = "SNS topic that wakes somebody. It gets the one alarm over those that cannot wait; empty for none."
  type        = string
  default     = ""
}

variable "alarm_5xx_percent" {
  description = "How many of a hundred answers of the proxy may be 5xx in a minute."
  type        = number
  default     = 5
}

variable "alarm_minimum_requests" {
  description = "With fewer requests in a minute no rate and no percentile is looked at: one failure of three is no rate."
  type        = number
  default     = 20
}

variable "alarm_slow_ms" {
  description = "Milliseconds in which 95 of a hundred calls of each of the common families must be answered."
  type        = number
  default     = 2000
}

variable "alarm_auth_denied" {
  description = "How many refused keys in five minutes are a spike: somebody tries keys, or many keys have ended."
  type        = number
  default     = 300
}

variable "alarm_transfers_in_flight" {
  description = "How many artifact transfers one worker may have under way; 80 % of the proxy's TRANSFERS_IN_ALL, above which it answers 503."
  type        = number
  default     = 320
}

variable "alarm_network_bytes" {
  description = "Bytes a second that one task may receive, or send. AWS does not say what a task's network can; 80 % of 125 MB/s (docs/scaling.md says how to measure it)."
  type        = number
  default     = 100000000
}

variable "autoscaling_min_tasks" {
  description = "The fewest tasks of the proxy. With one, a task that ends is an outage."
  type        = number
  default     = 2

  validation {
    condition     = var.autoscaling_min_tasks >= 2
    error_message = "autoscaling_min_tasks must be at least 2: one for each of two zones."
  }
}

variable "autoscaling_max_tasks" {
  description = "The most tasks of the proxy."
  type        = number
  default     = 6

  validation {
    condition     = var.autoscaling_max_tasks > var.autoscaling_min_tasks
    error_message = "autoscaling_max_tasks must be above autoscaling_min_tasks, or nothing can grow."
  }
}

variable "autoscaling_requests_per_task" {
  description = "Requests a minute that one task should get. One worker on one core was measured at about 2000 a second (docs/performance.md); a quarter of that leaves room for transfers."
  type        = number
  default     = 30000
}
