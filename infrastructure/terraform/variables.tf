# What differs between environments. terraform.tfvars.example shows the least that must be given.

variable "region" {
  description = "The region that everything stands in."
  type        = string
  default     = "us-east-1"
}

variable "project" {
  description = "First part of every name."
  type        = string
  default     = "hokusai"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.project))
    error_message = "project must be lower-case letters, digits and single hyphens: it is part of a DNS name."
  }
}

variable "environment" {
  description = "Second part of every name: development, staging, production."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.environment))
    error_message = "environment must be lower-case letters, digits and single hyphens: it is part of a DNS name."
  }

  validation {
    # An ALB's name has 32 characters at most, and ours adds "-registry-".
    condition     = length(var.project) + length(var.environment) <= 22
    error_message = "project and environment must have 22 characters or less together: names of load balancers end at 32."
  }
}

variable "vpc_id" {
  description = "The VPC that everything stands in."
  type        = string
}

variable "public_subnet_ids" {
  description = "Subnets of the load balancer, in two zones or more."
  type        = list(string)

  validation {
    condition     = length(distinct(var.public_subnet_ids)) >= 2
    error_message = "An ALB needs subnets in two zones."
  }
}

variable "private_subnet_ids" {
  description = "Subnets of the tasks and of Redis, in two zones or more, with a way out (NAT) to the auth service, ECR, Secrets Manager and CloudWatch."
  type        = list(string)

  validation {
    condition     = length(distinct(var.private_subnet_ids)) >= 2
    error_message = "Tasks in one zone are away when that zone is: give subnets in two."
  }
}

variable "certificate_arn" {
  description = "The certificate of the HTTPS listener; it must name registry_host and auth_host."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:acm:", var.certificate_arn))
    error_message = "certificate_arn must be the ARN of a certificate in ACM."
  }
}

variable "registry_host" {
  description = "The public host of the registry, as users write it in MLFLOW_TRACKING_URI."
  type        = string
  default     = "registry.hokus.ai"
}

variable "auth_host" {
  description = "The public host of the auth service, which shares the load balancer."
  type        = string
  default     = "auth.hokus.ai"
}

variable "other_public_hosts" {
  description = "Further hosts whose load balancer leads to this proxy. With the two above they are refused as the address of MLflow."
  type        = list(string)
  default     = ["registry.hokusai.ai", "api.hokus.ai"]
}

# Services of other repositories behind the same load balancer.

variable "api_target_group_arn" {
  description = "The API service's target group. It is also the old proxy's, which runs inside the API service."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:elasticloadbalancing:.*:targetgroup/", var.api_target_group_arn))
    error_message = "api_target_group_arn must be the ARN of a target group."
  }
}

variable "api_security_group_id" {
  description = "The security group of the API service's tasks, which must admit the load balancer (output alb_security_group_id)."
  type        = string
}

variable "api_port" {
  description = "The port of the API service's tasks."
  type        = number
  default     = 8001
}

variable "auth_target_group_arn" {
  description = "The auth service's target group."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:elasticloadbalancing:.*:targetgroup/", var.auth_target_group_arn))
    error_message = "auth_target_group_arn must be the ARN of a target group."
  }
}

variable "auth_security_group_id" {
  description = "The security group of the auth service's tasks, which must admit the load balancer (output alb_security_group_id)."
  type        = string
}

variable "auth_port" {
  description = "The port of the auth service's tasks."
  type        = number
  default     = 8000
}

# The load balancer.

variable "proxy_weight" {
  description = "How many of a hundred requests for MLflow go to this proxy; the others go to the old one."
  type        = number
  default     = 100

  validation {
    condition     = var.proxy_weight >= 0 && var.proxy_weight <= 100 && floor(var.proxy_weight) == var.proxy_weight
    error_message = "proxy_weight must be a whole number from 0 to 100."
  }
}

variable "alb_idle_timeout" {
  description = "Seconds without a byte after which the load balancer gives a connection up. Above the proxy's longest wait for MLflow, so that the proxy answers first."
  type        = number
  default     = 960

  validation {
    condition     = var.alb_idle_timeout >= 1 && var.alb_idle_timeout <= 4000
    error_message = "An ALB takes an idle timeout from 1 to 4000 seconds."
  }

  validation {
    condition     = var.alb_idle_timeout > var.artifact_read_timeout
    error_message = "alb_idle_timeout must be above artifact_read_timeout, or the load balancer answers before the proxy can say why."
  }
}

variable "deregistration_delay" {
  description = "Seconds that a target which leaves may go on with what it has begun. At least as long as the longest artifact transfer that is promised; a deployment waits as long for those that run."
  type        = number
  default     = 900

  validation {
    condition     = var.deregistration_delay >= 0 && var.deregistration_delay <= 3600
    error_message = "A target group takes a deregistration delay from 0 to 3600 seconds."
  }
}

variable "deletion_protection" {
  description = "Whether the load balancer refuses to be deleted. Off only where everything is thrown away again."
  type        = bool
  default     = true
}

variable "access_logs_bucket" {
  description = "The bucket of the load balancer's access logs, with the policy that AWS asks for; empty for none."
  type        = string
  default     = ""
}

# The proxy.

variable "proxy_image" {
  description = "The image of the proxy, by its full reference. Counts for the first revision of the task definition alone: after that, scripts/deploy_proxy_routing_fix.sh sets it."
  type        = string

  validation {
    condition     = can(regex("^[^:@ ]+(:[0-9]+/[^:@ ]+)?(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$", var.proxy_image)) && !endswith(var.proxy_image, ":latest")
    error_message = "proxy_image must name a tag or a digest, and not latest: a rollback must find what it ran before."
  }
}

variable "proxy_cpu" {
  description = "Processor units of a proxy task; 1024 are one processor."
  type        = number
  default     = 1024
}

variable "proxy_memory" {
  description = "Memory of a proxy task in MiB."
  type        = number
  default     = 2048
}

variable "proxy_workers" {
  description = "Worker processes in each proxy task: two for each processor."
  type        = number
  default     = 2

  validation {
    condition     = var.proxy_workers >= 1 && floor(var.proxy_workers) == var.proxy_workers
    error_message = "proxy_workers must be a whole number of at least 1."
  }
}

variable "read_timeout" {
  description = "Seconds that MLflow may be silent in a JSON call. Below the MLflow client's own 120, so that it sees the proxy's 504."
  type        = number
  default     = 110

  validation {
    condition     = var.read_timeout > 0 && var.read_timeout < 120
    error_message = "read_timeout must be above 0 and below 120 seconds, when the MLflow client gives up."
  }
}

variable "artifact_read_timeout" {
  description = "Seconds that MLflow may be silent in an artifact transfer, while it copies to or from S3."
  type        = number
  default     = 900

  validation {
    condition     = var.artifact_read_timeout > var.read_timeout
    error_message = "artifact_read_timeout must be above read_timeout."
  }
}

variable "auth_service_url" {
  description = "Base of the auth service that is asked about every key."
  type        = string
  default     = "https://auth.hokus.ai"

  validation {
    condition     = startswith(var.auth_service_url, "https://")
    error_message = "auth_service_url must begin with https://: users' keys travel in it, and only port 443 is let out."
  }
}

variable "metrics_port" {
  description = "The port of Prometheus' figures inside the proxy's task, for a sidecar on 127.0.0.1. No security group lets it in."
  type        = number
  default     = 9464
}

variable "proxy_environment" {
  description = "Further variables of the proxy (docs/configuration.md), such as POLICY_MODE. Not those that this module sets, and no secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.proxy_environment) : !can(regex("TOKEN|PASSWORD|SECRET|AUTHORIZATION|REDIS_URL", name))])
    error_message = "proxy_environment is readable by all who may describe a task: secrets belong into proxy_secrets."
  }
}

variable "proxy_secrets" {
  description = "Further secrets of the proxy, such as MLFLOW_UPSTREAM_AUTHORIZATION: variable to ARN of a secret in Secrets Manager that holds nothing but the value."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for arn in values(var.proxy_secrets) : can(regex("^arn:aws[a-z-]*:secretsmanager:[^:]*:[^:]*:secret:[^:]+$", arn))])
    error_message = "proxy_secrets must map to ARNs of secrets in Secrets Manager, without the key of a JSON field."
  }
}

# MLflow.

variable "mlflow_image" {
  description = "The image of MLflow, by its full reference: `mlflow` on the PATH, the database's driver and boto3 in it, run as root or with VOLUME /tmp (Fargate gives the volume to root else)."
  type        = string

  validation {
    condition     = can(regex("^[^:@ ]+(:[0-9]+/[^:@ ]+)?(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$", var.mlflow_image)) && !endswith(var.mlflow_image, ":latest")
    error_message = "mlflow_image must name a tag or a digest, and not latest: a new MLflow may want a new database schema."
  }
}

variable "mlflow_cpu" {
  description = "Processor units of an MLflow task."
  type        = number
  default     = 2048
}

variable "mlflow_memory" {
  description = "Memory of an MLflow task in MiB."
  type        = number
  default     = 4096
}

variable "mlflow_workers" {
  description = "Worker processes in each MLflow task."
  type        = number
  default     = 4
}

variable "mlflow_tasks" {
  description = "How many MLflow tasks run. With none there is no address, and resolvers remember that for minutes."
  type        = number
  default     = 2

  validation {
    condition     = var.mlflow_tasks >= 1 && floor(var.mlflow_tasks) == var.mlflow_tasks
    error_message = "mlflow_tasks must be a whole number of at least 1."
  }
}

variable "mlflow_disk" {
  description = "GiB of disk in each MLflow task. An artifact may lie there on its way to S3: several of the largest must find room."
  type        = number
  default     = 50

  validation {
    condition     = var.mlflow_disk >= 21 && var.mlflow_disk <= 200
    error_message = "Fargate gives from 21 to 200 GiB."
  }
}

variable "database_secret_arn" {
  description = "The secret in Secrets Manager that holds MLflow's --backend-store-uri, password included, and nothing else."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:secretsmanager:[^:]*:[^:]*:secret:[^:]+$", var.database_secret_arn))
    error_message = "database_secret_arn must be the ARN of a secret in Secrets Manager, without the key of a JSON field."
  }
}

variable "database_security_group_id" {
  description = "The security group of MLflow's database, which must admit MLflow (output mlflow_security_group_id)."
  type        = string
}

variable "database_port" {
  description = "The port of MLflow's database."
  type        = number
  default     = 5432
}

variable "artifact_bucket" {
  description = "The bucket that MLflow keeps artifacts in."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.artifact_bucket))
    error_message = "artifact_bucket must be the bucket's name alone, without s3://."
  }
}

variable "artifact_prefix" {
  description = "Where in the bucket, without slashes at either end."
  type        = string
  default     = "mlflow"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.artifact_prefix))
    error_message = "artifact_prefix must not be empty, nor begin or end with a slash."
  }
}

# Redis.

variable "redis_node_type" {
  description = "The size of Redis. 168 bytes for each key seen in two hours: the smallest is large."
  type        = string
  default     = "cache.t4g.small"
}

variable "redis_auth_secret_arn" {
  description = "The secret in Secrets Manager that holds Redis' password and nothing else; empty for a Redis that only its security group protects. How to set it at Redis: redis.tf."
  type        = string
  default     = ""

  validation {
    condition     = var.redis_auth_secret_arn == "" || can(regex("^arn:aws[a-z-]*:secretsmanager:[^:]*:[^:]*:secret:[^:]+$", var.redis_auth_secret_arn))
    error_message = "redis_auth_secret_arn must be the ARN of a secret in Secrets Manager, without the key of a JSON field."
  }
}

# Logs, alerts and keys.

variable "log_retention_days" {
  description = "How long logs are kept. The access lines are the audit trail too."
  type        = number
  default     = 365
}

variable "alert_emails" {
  description = "Addresses that are told of alarms. Each gets a mail that it must confirm."
  type        = list(string)
  default     = []
}

variable "kms_key_arn" {
  description = "A key of one's own for logs, alerts and Redis; its policy must let logs and cloudwatch use it. Empty for AWS's own keys."
  type        = string
  default     = ""
}

variable "secrets_kms_key_arns" {
  description = "Keys of one's own that the secrets above, or the artifact bucket, are encrypted with."
  type        = list(string)
  default     = []
}
