# Who may speak to whom: the internet to the load balancer, that to the proxy, that to MLflow and Redis. Nobody else to
# MLflow. Every rule is a resource of its own, so that tests can read the way; a group without rules lets nothing through.
#
# DNS needs no rule: security groups do not look at what goes to the VPC's own resolver.

# The load balancer.

resource "aws_security_group" "alb" {
  name        = "${var.project}-mlflow-alb-${var.environment}"
  description = "The load balancer of the registry"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.project}-mlflow-alb-${var.environment}" }
}

resource "aws_vpc_security_group_ingress_rule" "alb_http" {
  security_group_id = aws_security_group.alb.id
  description       = "Anybody, to be redirected to HTTPS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
}

resource "aws_vpc_security_group_ingress_rule" "alb_https" {
  security_group_id = aws_security_group.alb.id
  description       = "Anybody"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "alb_to_proxy" {
  security_group_id            = aws_security_group.alb.id
  description                  = "The proxy"
  referenced_security_group_id = aws_security_group.proxy.id
  ip_protocol                  = "tcp"
  from_port                    = 8001
  to_port                      = 8001
}

resource "aws_vpc_security_group_egress_rule" "alb_to_api" {
  security_group_id            = aws_security_group.alb.id
  description                  = "The API service, of another repository"
  referenced_security_group_id = var.api_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = var.api_port
  to_port                      = var.api_port
}

resource "aws_vpc_security_group_egress_rule" "alb_to_auth" {
  security_group_id            = aws_security_group.alb.id
  description                  = "The auth service, of another repository"
  referenced_security_group_id = var.auth_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = var.auth_port
  to_port                      = var.auth_port
}

# The proxy.

resource "aws_security_group" "proxy" {
  name        = "${var.project}-mlflow-proxy-${var.environment}"
  description = "Tasks of the MLflow proxy"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.project}-mlflow-proxy-${var.environment}" }
}

resource "aws_vpc_security_group_ingress_rule" "proxy_from_alb" {
  security_group_id            = aws_security_group.proxy.id
  description                  = "The load balancer"
  referenced_security_group_id = aws_security_group.alb.id
  ip_protocol                  = "tcp"
  from_port                    = 8001
  to_port                      = 8001
}

resource "aws_vpc_security_group_egress_rule" "proxy_to_mlflow" {
  security_group_id            = aws_security_group.proxy.id
  description                  = "MLflow"
  referenced_security_group_id = aws_security_group.mlflow.id
  ip_protocol                  = "tcp"
  from_port                    = 5000
  to_port                      = 5000
}

resource "aws_vpc_security_group_egress_rule" "proxy_to_redis" {
  security_group_id            = aws_security_group.proxy.id
  description                  = "Redis"
  referenced_security_group_id = aws_security_group.redis.id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}

# The auth service stands behind a public name, and ECR, Secrets Manager and CloudWatch behind addresses that change.
resource "aws_vpc_security_group_egress_rule" "proxy_to_https" {
  security_group_id = aws_security_group.proxy.id
  description       = "The auth service, ECR, Secrets Manager, CloudWatch"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# MLflow. It checks no keys, so this one rule is what keeps it from being asked past the proxy.

resource "aws_security_group" "mlflow" {
  name        = "${var.project}-mlflow-${var.environment}"
  description = "Tasks of MLflow"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.project}-mlflow-${var.environment}" }
}

resource "aws_vpc_security_group_ingress_rule" "mlflow_from_proxy" {
  security_group_id            = aws_security_group.mlflow.id
  description                  = "The proxy, and nobody else"
  referenced_security_group_id = aws_security_group.proxy.id
  ip_protocol                  = "tcp"
  from_port                    = 5000
  to_port                      = 5000
}

resource "aws_vpc_security_group_egress_rule" "mlflow_to_database" {
  security_group_id            = aws_security_group.mlflow.id
  description                  = "The database"
  referenced_security_group_id = var.database_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = var.database_port
  to_port                      = var.database_port
}

resource "aws_vpc_security_group_egress_rule" "mlflow_to_https" {
  security_group_id = aws_security_group.mlflow.id
  description       = "S3, ECR, Secrets Manager, CloudWatch"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# Redis. It starts no connection.

resource "aws_security_group" "redis" {
  name        = "${var.project}-mlflow-redis-${var.environment}"
  description = "Redis of the MLflow proxy"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.project}-mlflow-redis-${var.environment}" }
}

resource "aws_vpc_security_group_ingress_rule" "redis_from_proxy" {
  security_group_id            = aws_security_group.redis.id
  description                  = "The proxy"
  referenced_security_group_id = aws_security_group.proxy.id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}
