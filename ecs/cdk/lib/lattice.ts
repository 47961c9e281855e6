import { CfnOutput, Stack, Validations } from 'aws-cdk-lib';
import { Peer, Vpc } from 'aws-cdk-lib/aws-ec2';
import { CfnService as EcsService } from 'aws-cdk-lib/aws-ecs';
import { ManagedPolicy, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import {
  CfnListener, CfnRule, CfnService, CfnServiceNetwork, CfnServiceNetworkServiceAssociation,
  CfnServiceNetworkVpcAssociation, CfnTargetGroup,
} from 'aws-cdk-lib/aws-vpclattice';
import { Construct } from 'constructs';
import { managedPolicy, setting } from './settings';
import { ports, Server, SERVERS } from './task-definition';

/** Both servers as one service of VPC Lattice, routed by path. ECS registers the tasks. */
export class Lattice extends Stack {
  /** The source of calls and health checks: the addresses of its prefix list, whose id differs by region. */
  static readonly ADDRESSES = Peer.ipv4('169.254.171.0/24');
  /** The configuration for an ECS service. */
  readonly targets: Record<Server, EcsService.VpcLatticeConfigurationProperty>;

  constructor(scope: Construct, id: string, vpc: Vpc) {
    super(scope, id);
    const network = new CfnServiceNetwork(this, 'network', { name: 'grpc-suite', authType: 'NONE' });
    new CfnServiceNetworkVpcAssociation(this, 'vpc', {
      serviceNetworkIdentifier: network.ref, vpcIdentifier: vpc.vpcId,
    });
    const service = new CfnService(this, 'service', {
      name: 'grpc-suite',
      authType: 'NONE',
      // Create its DNS record yourself, in a zone that the callers' VPC resolves.
      customDomainName: `lattice.${setting(this, 'domain')}`,
      certificateArn: setting(this, 'certificateArn'),
      // As long as the server allows a silent stream (STREAM_IDLE_TIMEOUT).
      idleTimeoutSeconds: 300,
    });
    new CfnServiceNetworkServiceAssociation(this, 'association', {
      serviceNetworkIdentifier: network.ref, serviceIdentifier: service.ref,
    });
    const listener = new CfnListener(this, 'listener', {
      serviceIdentifier: service.ref,
      name: 'https',
      // gRPC needs HTTPS.
      protocol: 'HTTPS',
      port: 443,
      defaultAction: { fixedResponse: { statusCode: 404 } },
    });
    const policy = 'AmazonECSInfrastructureRolePolicyForVpcLattice';
    const infrastructure = new Role(this, 'ecs-role', {
      assumedBy: new ServicePrincipal('ecs.amazonaws.com'),
      managedPolicies: [ManagedPolicy.fromAwsManagedPolicyName(policy)],
    });
    const targets = (name: Server, priority: number) => {
      const { grpc, admin } = ports(name);
      const group = new CfnTargetGroup(this, `${name}-targets`, {
        name,
        type: 'IP',
        config: {
          vpcIdentifier: vpc.vpcId,
          // Plaintext HTTP/2 to the tasks.
          protocol: 'HTTP',
          protocolVersion: 'GRPC',
          port: grpc,
          // Lattice has no gRPC health check: it checks the admin port.
          healthCheck: {
            enabled: true,
            protocol: 'HTTP',
            protocolVersion: 'HTTP1',
            port: admin,
            path: '/readyz',
            matcher: { httpCode: '200' },
            healthCheckIntervalSeconds: 5,
            healthCheckTimeoutSeconds: 2,
            healthyThresholdCount: 2,
            unhealthyThresholdCount: 2,
          },
        },
      });
      new CfnRule(this, `${name}-rule`, {
        serviceIdentifier: service.ref,
        listenerIdentifier: listener.ref,
        name,
        priority,
        match: { httpMatch: { pathMatch: { match: { prefix: `/${SERVERS[name]}/` } } } },
        action: { forward: { targetGroups: [{ targetGroupIdentifier: group.ref }] } },
      });
      return { portName: 'grpc', roleArn: infrastructure.roleArn, targetGroupArn: group.ref };
    };
    this.targets = { 'route-guide': targets('route-guide', 10), greeter: targets('greeter', 20) };

    new CfnOutput(this, 'Domain', { value: service.attrDnsEntryDomainName });
    Validations.of(infrastructure).acknowledge({
      id: managedPolicy(policy), reason: 'AWS keeps this policy to what ECS does in Lattice.',
    });
  }
}
