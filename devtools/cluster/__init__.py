"""The whole product on one machine, behind a load balancer. Not imported by the product."""
