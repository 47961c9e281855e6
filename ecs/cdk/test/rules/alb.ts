import { attributes, SERVED, seconds, text } from '../suite';
import { differs, Rule } from './rule';

const TARGETS = 'services/route-guide/targets';

/** https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html */
const POLICIES = ['ELBSecurityPolicy-TLS13-1-2-2021-06', 'ELBSecurityPolicy-TLS13-1-2-Res-2021-06',
  'ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09', 'ELBSecurityPolicy-TLS13-1-3-2021-06'];

/** A rule for a field of every server's target group. */
const targets = (says: string, field: string, fits: (value: any) => boolean, ...wrong: unknown[]): Rule => ({
  says,
  *problems(suite) {
    for (const { name, targets } of suite.servers) {
      const value = targets.Properties[field];
      if (!fits(value)) yield `${name}: ${field} is ${JSON.stringify(value)}`;
    }
  },
  mistakes: wrong.map((value) => [TARGETS, field, value]),
});

export const alb: Rule[] = [
  targets('The ALB uses gRPC to the servers', 'ProtocolVersion', (value) => value === 'GRPC',
    'GPRC', 'HTTP2', 'HTTP1', null),
  targets('The ALB uses plaintext to the servers, which have no certificates', 'Protocol',
    (value) => value === 'HTTP', 'HTTPS', null),
  targets('Targets are addresses: awsvpc has no instances', 'TargetType', (value) => value === 'ip',
    'instance', 'lambda', null),
  targets('Only code 0 is healthy', 'Matcher', (value) => JSON.stringify(value) === '{"GrpcCode":"0"}',
    { GrpcCode: '0-100' }, { GrpcCode: '0-99' }, { GrpcCode: '12' }, { HttpCode: '200' }, null),
  targets('Health checks call the method whose status code reports health', 'HealthCheckPath',
    (value) => text('services/chassis/src/call/kind.rs').includes(`ALB_CHECK: &str = "${value}"`),
    '/AWS.ALB/healthChecks', '/grpc.health.v1.Health/Check', '/healthz', '/', null),
  targets('Health checks use HTTP: GRPC is not a health check protocol', 'HealthCheckProtocol',
    (value) => value === 'HTTP', 'GRPC', 'HTTPS', null),
  targets('Health checks use the port of the calls', 'HealthCheckPort',
    (value) => value === undefined || value === 'traffic-port', '50052'),
  {
    says: 'A health check ends before the next one starts',
    *problems(suite) {
      for (const { name, targets } of suite.servers) {
        const { HealthCheckIntervalSeconds: interval, HealthCheckTimeoutSeconds: timeout } = targets.Properties;
        if (!(timeout >= 2 && timeout < interval && interval <= 300)) yield `${name}: ${timeout} s, every ${interval}`;
      }
    },
    mistakes: [
      [TARGETS, 'HealthCheckTimeoutSeconds', 5],
      [TARGETS, 'HealthCheckTimeoutSeconds', null],
      [TARGETS, 'HealthCheckIntervalSeconds', 2],
      [TARGETS, 'HealthCheckIntervalSeconds', 301],
    ],
  },
  {
    says: 'Target groups have the required attributes, and no others',
    *problems(suite) {
      for (const { name, targets } of suite.servers) {
        const { 'deregistration_delay.timeout_seconds': delay, ...others } =
          attributes(targets.Properties.TargetGroupAttributes);
        if (!(Number(delay) <= 3600)) yield `${name}: a deregistration delay of ${delay} s`;
        yield* differs(name, others, {
          'load_balancing.algorithm.type': 'least_outstanding_requests', 'stickiness.enabled': 'false',
        });
      }
    },
    mistakes: [
      [TARGETS, 'TargetGroupAttributes/0/Key', 'deregistration_delay.timeout'],
      [TARGETS, 'TargetGroupAttributes/0/Value', '3601'],
      [TARGETS, 'TargetGroupAttributes/2/Value', 'least_outstanding_request'],
      [TARGETS, 'TargetGroupAttributes/2', null],
    ],
  },
  {
    says: 'The ALB allows silent streams for as long as the servers do, and accepts HTTP/2',
    *problems(suite) {
      const [balancer] = suite.all('ElasticLoadBalancingV2::LoadBalancer');
      for (const { name, container } of suite.servers) {
        yield* differs(name, attributes(balancer.Properties.LoadBalancerAttributes), {
          'deletion_protection.enabled': 'false',
          'routing.http2.enabled': 'true',
          'idle_timeout.timeout_seconds': String(seconds(container, 'STREAM_IDLE_TIMEOUT')),
          'client_keep_alive.seconds': '3600',
        });
      }
    },
    mistakes: [
      ['services/alb', 'LoadBalancerAttributes/1/Value', 'false'],
      ['services/alb', 'LoadBalancerAttributes/2/Value', '60'],
      ['services/alb', 'LoadBalancerAttributes/2/Value', '5000'],
      ['services/alb', 'LoadBalancerAttributes/2/Key', 'idle_timeout.seconds'],
      // Metadata may have names that the ALB regards as invalid headers.
      ['services/alb', 'LoadBalancerAttributes/3/Key', 'routing.http.drop_invalid_header_fields.enabled'],
    ],
  },
  {
    says: 'Listeners for gRPC are HTTPS, with a certificate and TLS 1.3',
    *problems(suite) {
      for (const listener of suite.all('ElasticLoadBalancingV2::Listener')) {
        const { Protocol, Port, Certificates, SslPolicy } = listener.Properties;
        if (Protocol !== 'HTTPS' || Port !== 443) yield `${Protocol} at ${Port}`;
        if (!Certificates?.[0]?.CertificateArn) yield 'no certificate';
        if (!POLICIES.includes(SslPolicy)) yield `policy ${SslPolicy}`;
      }
    },
    mistakes: [
      ['services/alb/https', 'Protocol', 'HTTP'],
      ['services/alb/https', 'Port', 80],
      ['services/alb/https', 'Certificates', null],
      ['services/alb/https', 'SslPolicy', 'ELBSecurityPolicy-TLS13-1-2-2021-6'],
      ['services/alb/https', 'SslPolicy', 'ELBSecurityPolicy-2016-08'],
      ['services/alb/https', 'SslPolicy', null],
    ],
  },
  {
    says: 'Calls are routed to the server of their service, and everything else is 404',
    *problems(suite) {
      const [listener] = suite.all('ElasticLoadBalancingV2::Listener');
      const [{ Type, FixedResponseConfig }] = listener.Properties.DefaultActions;
      if (Type !== 'fixed-response' || FixedResponseConfig.StatusCode !== '404') yield `all else is ${Type}`;
      for (const { name, targets } of suite.servers) {
        const rules = suite.all('ElasticLoadBalancingV2::ListenerRule')
          .filter(({ stack, Properties }) => suite.behind(stack, Properties.Actions[0].TargetGroupArn) === targets);
        const [rule] = rules;
        if (!rule) yield `${name}: no rule`;
        else {
          yield* differs(name, rule.Properties.Conditions, [
            { Field: 'path-pattern', PathPatternConfig: { Values: [`/${SERVED[name].service}/*`] } },
          ]);
          if (suite.behind(rule.stack, rule.Properties.ListenerArn) !== listener) yield `${name}: at no listener`;
        }
      }
    },
    mistakes: [
      ['services/greeter/rule', 'Conditions/0/PathPatternConfig/Values/0', '/helloworld.greeter/*'],
      ['services/greeter/rule', 'Conditions/0/PathPatternConfig/Values/0', '/routeguide.RouteGuide/*'],
      ['services/greeter/rule', 'Conditions/0/PathPatternConfig/Values/0', '/helloworld.Greeter'],
      ['services/greeter/rule', 'Actions/0/TargetGroupArn', { Ref: 'routeguidetargetsD81D1B7A' }],
      ['services/greeter/rule', 'ListenerArn', { Ref: 'another' }],
      ['services/alb/https', 'DefaultActions/0/FixedResponseConfig/StatusCode', '200'],
    ],
  },
  {
    says: 'Alarms cover every target group, and the ALB’s own errors',
    *problems(suite) {
      const alarms = suite.all('CloudWatch::Alarm').filter(({ Properties: alarm }) =>
        alarm.Namespace === 'AWS/ApplicationELB' && alarm.TreatMissingData === 'notBreaching'
        && alarm.ComparisonOperator === 'GreaterThanOrEqualToThreshold');
      const balancer = suite.all('ElasticLoadBalancingV2::LoadBalancer')[0];
      const errors = alarms.find(({ Properties: alarm }) =>
        alarm.MetricName === 'HTTPCode_ELB_5XX_Count' && alarm.Statistic === 'Sum');
      const of = errors?.Properties.Dimensions[0].Value;
      if (!of || suite.behind(errors.stack, of) !== balancer) yield 'no alarm at 5xx';
      for (const { name, targets } of suite.servers) {
        const found = alarms.some(({ stack, Properties: alarm }) =>
          alarm.MetricName === 'UnHealthyHostCount' && alarm.Threshold === 1
          && alarm.Dimensions.some(({ Value }: any) => suite.behind(stack, Value) === targets));
        if (!found) yield `${name}: no alarm at unhealthy tasks`;
      }
    },
    mistakes: [
      ['services/greeter/unhealthy', 'MetricName', 'UnhealthyHostCount'],
      ['services/greeter/unhealthy', 'Dimensions/1', null],
      ['services/greeter/unhealthy', 'TreatMissingData', null],
      // The servers' errors are HTTP 200.
      ['services/5xx', 'MetricName', 'HTTPCode_Target_5XX_Count'],
      ['services/5xx', 'Statistic', 'Average'],
      ['services/5xx', 'ComparisonOperator', 'LessThanThreshold'],
    ],
  },
];
