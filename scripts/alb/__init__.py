"""The load balancer's rules, read from infrastructure/terraform: for the tests, for HAProxy, for docs/routing.md."""
