/** Prints the settings of the ALB, for a test double of it. */
import { attributes, Suite, synthesize } from './suite';

const suite = new Suite(synthesize());
const [balancer] = suite.all('ElasticLoadBalancingV2::LoadBalancer');
const groups = suite.servers.map(({ name, targets: { Properties: group }, container }) => [name, {
  port: group.Port,
  protocol_version: group.ProtocolVersion,
  health_check: {
    path: group.HealthCheckPath,
    matcher: group.Matcher,
    interval_seconds: group.HealthCheckIntervalSeconds,
    timeout_seconds: group.HealthCheckTimeoutSeconds,
    healthy_threshold: group.HealthyThresholdCount,
    unhealthy_threshold: group.UnhealthyThresholdCount,
  },
  attributes: attributes(group.TargetGroupAttributes),
  // The task's stop timeout, and its environment.
  stop_timeout_seconds: container.StopTimeout,
  environment: Object.fromEntries(container.Environment.map(({ Name, Value }: any) => [Name, Value])),
}]);
console.log(JSON.stringify({
  load_balancer: { attributes: attributes(balancer.Properties.LoadBalancerAttributes) },
  target_groups: Object.fromEntries(groups),
}, null, 2));
