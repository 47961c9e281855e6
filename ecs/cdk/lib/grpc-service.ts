import { Duration, Stack } from 'aws-cdk-lib';
import { CfnScalableTarget, CfnScalingPolicy } from 'aws-cdk-lib/aws-applicationautoscaling';
import { Alarm, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { Peer, Port, SecurityGroup, Vpc } from 'aws-cdk-lib/aws-ec2';
import { CfnService, CfnTaskDefinition, Cluster } from 'aws-cdk-lib/aws-ecs';
import {
  ApplicationListener, ApplicationListenerRule, ApplicationProtocol, ApplicationProtocolVersion,
  ApplicationTargetGroup, ListenerAction, ListenerCondition, Protocol, TargetGroupLoadBalancingAlgorithmType,
  TargetType,
} from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import { DnsRecordType, PrivateDnsNamespace, Service } from 'aws-cdk-lib/aws-servicediscovery';
import { Construct } from 'constructs';
import { Lattice } from './lattice';
import { ports, Server, SERVERS, taskDefinition } from './task-definition';

interface Surroundings {
  vpc: Vpc;
  cluster: Cluster;
  namespace: PrivateDnsNamespace;
  lattice?: Lattice;
  listener: ApplicationListener;
  /** Alarms that roll a deployment back. */
  errors: Alarm;
  /** The priority of its listener rule. */
  priority: number;
}

/** A server's tasks, with their security group, names and auto scaling. */
export class GrpcService extends Construct {
  /** The tasks' security group. */
  readonly group: SecurityGroup;
  readonly port: number;
  /** The DNS name that resolves to all tasks. */
  readonly domain: string;

  constructor(scope: Stack, name: Server, surroundings: Surroundings) {
    super(scope, name);
    const { vpc, cluster, namespace, lattice, listener, errors, priority } = surroundings;
    const { grpc, admin } = ports(name);
    this.port = grpc;
    this.domain = `${name}.${namespace.namespaceName}`;

    // Only the ALB may connect to the tasks; the stacks of other callers add their own rules.
    this.group = new SecurityGroup(this, 'group', {
      vpc, description: `Tasks of ${name}`, allowAllOutbound: false,
    });
    this.group.addEgressRule(Peer.anyIpv4(), Port.tcp(443), 'Images and logs');
    this.group.connections.allowFrom(listener.connections.securityGroups[0], Port.tcp(grpc), 'Calls');
    if (lattice) {
      this.group.addIngressRule(Lattice.ADDRESSES, Port.tcp(grpc), 'Calls through Lattice');
      this.group.addIngressRule(Lattice.ADDRESSES, Port.tcp(admin), 'Health checks of Lattice');
    }

    const targets = new ApplicationTargetGroup(this, 'targets', {
      vpc,
      targetType: TargetType.IP,
      // Plaintext HTTP/2 to the tasks.
      protocol: ApplicationProtocol.HTTP,
      protocolVersion: ApplicationProtocolVersion.GRPC,
      port: grpc,
      healthCheck: {
        protocol: Protocol.HTTP,
        // The ALB reads only the status code. This method returns 14, UNAVAILABLE, when the server is not serving.
        path: '/AWS.ALB/healthcheck',
        healthyGrpcCodes: '0',
        interval: Duration.seconds(5),
        timeout: Duration.seconds(2),
        healthyThresholdCount: 2,
        unhealthyThresholdCount: 2,
      },
      // ECS waits that long before SIGTERM, and the ALB then cuts open calls: the maximum duration of a call.
      deregistrationDelay: Duration.seconds(60),
      loadBalancingAlgorithmType: TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
    });
    const rule = new ApplicationListenerRule(this, 'rule', {
      listener,
      priority,
      conditions: [ListenerCondition.pathPatterns([`/${SERVERS[name]}/*`])],
      action: ListenerAction.forward([targets]),
    });
    const unhealthy = new Alarm(this, 'unhealthy', {
      metric: targets.metrics.unhealthyHostCount({ period: Duration.minutes(1) }),
      alarmDescription: `The ALB finds tasks of ${name} unhealthy`,
      threshold: 1,
      evaluationPeriods: 3,
      treatMissingData: TreatMissingData.NOT_BREACHING,
    });

    // Service Connect's names resolve only in tasks that use it. Other callers in the VPC use DNS.
    const addresses = new Service(this, 'addresses', {
      namespace, name, dnsRecordType: DnsRecordType.A, dnsTtl: Duration.seconds(10),
      customHealthCheck: { failureThreshold: 1 },
    });
    // LAME_DUCK is for tasks that are stopped before they are deregistered: on Spot, or by hand. So it is kept.
    const definition = new CfnTaskDefinition(this, 'definition', taskDefinition(scope, name));
    const service = new CfnService(this, 'service', {
      serviceName: name,
      cluster: cluster.clusterName,
      launchType: 'FARGATE',
      taskDefinition: definition.ref,
      // No desiredCount: auto scaling sets it, and every deployment would reset it.
      networkConfiguration: {
        awsvpcConfiguration: {
          subnets: vpc.privateSubnets.map((subnet) => subnet.subnetId),
          securityGroups: [this.group.securityGroupId],
          assignPublicIp: 'DISABLED',
        },
      },
      loadBalancers: [{ containerName: name, containerPort: grpc, targetGroupArn: targets.targetGroupArn }],
      healthCheckGracePeriodSeconds: 30,
      serviceRegistries: [{ registryArn: addresses.serviceArn }],
      serviceConnectConfiguration: {
        enabled: true,
        namespace: namespace.namespaceName,
        services: [{
          portName: 'grpc',
          // A different name from that in DNS, in the same namespace.
          discoveryName: `${name}-connect`,
          clientAliases: [{ dnsName: name, port: grpc }],
          // Its proxy is in front of the server for all callers. Only its deadline limits a stream.
          timeout: { perRequestTimeoutSeconds: 0, idleTimeoutSeconds: 300 },
        }],
      },
      vpcLatticeConfigurations: lattice && [lattice.targets[name]],
      availabilityZoneRebalancing: 'ENABLED',
      deploymentConfiguration: {
        minimumHealthyPercent: 100,
        maximumPercent: 200,
        deploymentCircuitBreaker: { enable: true, rollback: true },
        alarms: { alarmNames: [unhealthy.alarmName, errors.alarmName], enable: true, rollback: true },
      },
    });
    // ECS refuses a target group without a listener.
    service.node.addDependency(rule);

    const tasks = new CfnScalableTarget(this, 'tasks', {
      serviceNamespace: 'ecs',
      resourceId: `service/${cluster.clusterName}/${service.attrName}`,
      scalableDimension: 'ecs:service:DesiredCount',
      // One in each zone.
      minCapacity: 2,
      maxCapacity: 12,
    });
    new CfnScalingPolicy(this, 'cpu', {
      policyName: 'cpu',
      policyType: 'TargetTrackingScaling',
      scalingTargetId: tasks.ref,
      targetTrackingScalingPolicyConfiguration: {
        predefinedMetricSpecification: { predefinedMetricType: 'ECSServiceAverageCPUUtilization' },
        targetValue: 60,
        scaleOutCooldown: 60,
        scaleInCooldown: 300,
      },
    });
  }
}
