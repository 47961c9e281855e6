import { plain, Running } from '../suite';
import { differs, each, Rule } from './rule';

const SERVICE = 'services/greeter/service';
const TRACKING = 'TargetTrackingScalingPolicyConfiguration';

const port = ({ container }: Running, name: string) =>
  container.PortMappings.find(({ Name }: any) => Name === name)?.ContainerPort;

export const services: Rule[] = [
  {
    says: 'The ALB’s target is the gRPC port of an existing container',
    problems: each(function* (server) {
      const [{ ContainerName, ContainerPort }, ...others] = server.service.Properties.LoadBalancers;
      if (ContainerName !== server.container.Name) yield `no container ${ContainerName}`;
      if (ContainerPort !== port(server, 'grpc')) yield `no gRPC at ${ContainerPort}`;
      if (server.targets.Properties.Port !== ContainerPort || others.length > 0) yield 'other targets';
    }),
    mistakes: [
      [SERVICE, 'LoadBalancers/0/ContainerName', 'Greeter'],
      [SERVICE, 'LoadBalancers/0/ContainerPort', 50051],
      [SERVICE, 'LoadBalancers/0/ContainerPort', 9001],
      ['services/greeter/targets', 'Port', 80],
    ],
  },
  {
    says: 'The target group has a listener',
    problems: each(function* ({ service, targets }, suite) {
      const rules = suite.all('ElasticLoadBalancingV2::ListenerRule').filter((rule) =>
        suite.behind(rule.stack, rule.Properties.Actions[0].TargetGroupArn) === targets);
      if (!rules.some(({ id }) => service.DependsOn?.includes(id))) yield 'it may come before its rule';
    }),
    mistakes: [[SERVICE, '/DependsOn', []]],
  },
  {
    says: 'Service Connect names an existing port, and allows long streams',
    problems: each(function* (server, suite) {
      const { Enabled, Namespace, Services } = server.service.Properties.ServiceConnectConfiguration;
      yield* differs('Service Connect', [Enabled, Services.length], [true, 1]);
      const [{ PortName, DiscoveryName, ClientAliases, Timeout }] = Services;
      if (!port(server, PortName)) yield `no port ${PortName}`;
      yield* differs('aliases', ClientAliases, [{ DnsName: server.name, Port: port(server, 'grpc') }]);
      // The default is 15 seconds.
      yield* differs('timeout', Timeout, { PerRequestTimeoutSeconds: 0, IdleTimeoutSeconds: 300 });
      const [namespace] = suite.all('ServiceDiscovery::PrivateDnsNamespace');
      if (Namespace !== namespace.Properties.Name) yield `no namespace ${Namespace}`;
      const taken = suite.all('ServiceDiscovery::Service').map(({ Properties }) => Properties.Name);
      if (taken.includes(DiscoveryName)) yield `${DiscoveryName} is a name of DNS, in the same namespace`;
    }),
    mistakes: [
      [SERVICE, 'ServiceConnectConfiguration/Enabled', false],
      [SERVICE, 'ServiceConnectConfiguration/Services/0/PortName', 'grpc-api'],
      [SERVICE, 'ServiceConnectConfiguration/Services/0/DiscoveryName', 'greeter'],
      [SERVICE, 'ServiceConnectConfiguration/Services/0/ClientAliases/0/Port', 80],
      [SERVICE, 'ServiceConnectConfiguration/Services/0/Timeout', null],
      [SERVICE, 'ServiceConnectConfiguration/Services/0/Timeout/PerRequestTimeoutSeconds', 15],
      [SERVICE, 'ServiceConnectConfiguration/Namespace', 'grpc-suite'],
    ],
  },
  {
    says: 'A server has a name in DNS, with the addresses of all tasks',
    problems: each(function* ({ name, service }, suite) {
      const found = suite.behind(service.stack, service.Properties.ServiceRegistries?.[0].RegistryArn);
      const { Name, DnsConfig } = found?.Properties ?? {};
      yield* differs('name', Name, name);
      yield* differs('records', [DnsConfig?.RoutingPolicy, DnsConfig?.DnsRecords.map(({ Type }: any) => Type)],
        ['MULTIVALUE', ['A']]);
    }),
    mistakes: [
      ['services/greeter/addresses', 'Name', 'greeting'],
      ['services/greeter/addresses', 'DnsConfig/RoutingPolicy', 'WEIGHTED'],
      ['services/greeter/addresses', 'DnsConfig/DnsRecords/0/Type', 'SRV'],
    ],
  },
  {
    says: 'A deployment starts new tasks before it stops old ones, and rolls back automatically',
    problems: each(function* ({ service }, suite) {
      const { DeploymentConfiguration, HealthCheckGracePeriodSeconds: grace } = service.Properties;
      const { Alarms, ...rest } = DeploymentConfiguration;
      yield* differs('deployment', rest, {
        MinimumHealthyPercent: 100,
        MaximumPercent: 200,
        DeploymentCircuitBreaker: { Enable: true, Rollback: true },
      });
      const watched = Alarms.AlarmNames.map((name: any) => suite.behind(service.stack, name)?.Type);
      yield* differs('alarms', [Alarms.Enable, Alarms.Rollback, watched],
        [true, true, ['AWS::CloudWatch::Alarm', 'AWS::CloudWatch::Alarm']]);
      if (!(grace >= 15)) yield `${grace} s until the ALB must find a task healthy`;
    }),
    mistakes: [
      [SERVICE, 'DeploymentConfiguration/MinimumHealthyPercent', 50],
      [SERVICE, 'DeploymentConfiguration/MaximumPercent', 100],
      [SERVICE, 'DeploymentConfiguration/DeploymentCircuitBreaker', null],
      [SERVICE, 'DeploymentConfiguration/DeploymentCircuitBreaker/Rollback', false],
      [SERVICE, 'DeploymentConfiguration/Alarms/AlarmNames/0', 'unhealthy'],
      [SERVICE, 'DeploymentConfiguration/Alarms/Enable', false],
      [SERVICE, 'HealthCheckGracePeriodSeconds', null],
    ],
  },
  {
    says: 'Tasks are on Fargate, in private subnets of both zones, without public addresses',
    problems: each(function* ({ service }, suite) {
      const { LaunchType, NetworkConfiguration, AvailabilityZoneRebalancing } = service.Properties;
      const { Subnets, AssignPublicIp } = NetworkConfiguration?.AwsvpcConfiguration ?? {};
      yield* differs('tasks', [LaunchType, AssignPublicIp, AvailabilityZoneRebalancing],
        ['FARGATE', 'DISABLED', 'ENABLED']);
      const found = (Subnets ?? []).map((subnet: any) => suite.behind(service.stack, subnet));
      yield* differs('subnets', found.map((subnet: any) => suite.path(subnet)),
        ['network/vpc/PrivateSubnet1/Subnet', 'network/vpc/PrivateSubnet2/Subnet']);
    }),
    mistakes: [
      [SERVICE, 'LaunchType', null],
      [SERVICE, 'NetworkConfiguration', null],
      [SERVICE, 'NetworkConfiguration/AwsvpcConfiguration/AssignPublicIp', 'ENABLED'],
      [SERVICE, 'NetworkConfiguration/AwsvpcConfiguration/Subnets/1', null],
      [SERVICE, 'AvailabilityZoneRebalancing', null],
    ],
  },
  {
    says: 'Only auto scaling sets the number of tasks, two at least',
    problems: each(function* ({ service }, suite) {
      if ('DesiredCount' in service.Properties) yield 'the service counts, too';
      const scaled = suite.all('ApplicationAutoScaling::ScalableTarget').find(({ stack, Properties }) =>
        suite.behind(stack, Properties.ResourceId['Fn::Join'][1][3]) === service);
      const { MinCapacity, MaxCapacity, ScalableDimension, ServiceNamespace, ResourceId } = scaled?.Properties ?? {};
      yield* differs('scaled', [ServiceNamespace, ScalableDimension], ['ecs', 'ecs:service:DesiredCount']);
      if (!(MinCapacity >= 2 && MinCapacity < MaxCapacity)) yield `${MinCapacity} to ${MaxCapacity}`;
      if (!plain(ResourceId ?? '').startsWith('service/')) yield plain(ResourceId ?? '');
      const policy = suite.all('ApplicationAutoScaling::ScalingPolicy').find(({ stack, Properties }) =>
        suite.behind(stack, Properties.ScalingTargetId) === scaled);
      const { PredefinedMetricSpecification, TargetValue } =
        policy?.Properties.TargetTrackingScalingPolicyConfiguration ?? {};
      yield* differs('by', [PredefinedMetricSpecification?.PredefinedMetricType, TargetValue],
        ['ECSServiceAverageCPUUtilization', 60]);
    }),
    mistakes: [
      [SERVICE, 'DesiredCount', 2],
      ['services/greeter/tasks', 'MinCapacity', 1],
      ['services/greeter/tasks', 'MaxCapacity', 2],
      ['services/greeter/tasks', 'ResourceId/Fn::Join/1/3', 'greeting'],
      ['services/greeter/tasks', 'ResourceId/Fn::Join/1/0', 'services/'],
      ['services/greeter/cpu', 'ScalingTargetId', 'another'],
      ['services/greeter/cpu', `${TRACKING}/PredefinedMetricSpecification/PredefinedMetricType`, 'ECSServiceAverageCpu'],
      ['services/greeter/cpu', `${TRACKING}/TargetValue`, 600],
    ],
  },
  {
    says: 'Lattice registers the gRPC port, and checks health on the admin port',
    problems: each(function* (server, suite) {
      const [{ PortName, TargetGroupArn, RoleArn }] = server.service.Properties.VpcLatticeConfigurations ?? [{}];
      if (!port(server, PortName)) yield `no port ${PortName}`;
      const targets = suite.behind(server.service.stack, TargetGroupArn);
      const { Type, Config } = targets?.Properties ?? {};
      const { Protocol, ProtocolVersion, Port, HealthCheck } = Config ?? {};
      yield* differs('targets', [Type, Protocol, ProtocolVersion, Port], ['IP', 'HTTP', 'GRPC', port(server, 'grpc')]);
      const { HealthCheckIntervalSeconds: interval, HealthCheckTimeoutSeconds: timeout, ...check } = HealthCheck ?? {};
      yield* differs('check', check, {
        Enabled: true,
        Protocol: 'HTTP',
        // Lattice has no gRPC health checks.
        ProtocolVersion: 'HTTP1',
        Port: port(server, 'admin'),
        Path: '/readyz',
        Matcher: { HttpCode: '200' },
        HealthyThresholdCount: 2,
        UnhealthyThresholdCount: 2,
      });
      if (!(timeout < interval)) yield `${timeout} s, every ${interval}`;
      const assumed = suite.behind(server.service.stack, RoleArn)?.Properties.AssumeRolePolicyDocument.Statement[0];
      yield* differs('role', assumed?.Principal, { Service: 'ecs.amazonaws.com' });
    }),
    mistakes: [
      [SERVICE, 'VpcLatticeConfigurations', null],
      [SERVICE, 'VpcLatticeConfigurations/0/PortName', 'api'],
      ['lattice/greeter-targets', 'Type', 'INSTANCE'],
      ['lattice/greeter-targets', 'Config/Port', 443],
      ['lattice/greeter-targets', 'Config/ProtocolVersion', 'HTTP2'],
      ['lattice/greeter-targets', 'Config/Protocol', 'HTTPS'],
      ['lattice/greeter-targets', 'Config/HealthCheck/ProtocolVersion', 'GRPC'],
      ['lattice/greeter-targets', 'Config/HealthCheck/Port', 9000],
      ['lattice/greeter-targets', 'Config/HealthCheck/Path', '/ready'],
      ['lattice/greeter-targets', 'Config/HealthCheck/HealthCheckTimeoutSeconds', 5],
      ['lattice/ecs-role', 'AssumeRolePolicyDocument/Statement/0/Principal/Service', 'ecs-tasks.amazonaws.com'],
    ],
  },
];
