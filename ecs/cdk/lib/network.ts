import { Aws, RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import { GatewayVpcEndpointAwsService, Vpc } from 'aws-cdk-lib/aws-ec2';
import { Repository, TagMutability } from 'aws-cdk-lib/aws-ecr';
import { Cluster, ContainerInsights } from 'aws-cdk-lib/aws-ecs';
import { Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { LogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs';
import { PrivateDnsNamespace } from 'aws-cdk-lib/aws-servicediscovery';
import { Construct } from 'constructs';
import { SERVERS } from './task-definition';

/** The tasks' network, and all resources that their task definitions name: images, log groups, roles. */
export class Network extends Stack {
  readonly vpc: Vpc;
  readonly cluster: Cluster;
  readonly namespace: PrivateDnsNamespace;

  constructor(scope: Construct, id: string) {
    super(scope, id);
    // One NAT gateway, for pulling images and writing logs; if its zone fails, running tasks continue.
    this.vpc = new Vpc(this, 'vpc', { maxAzs: 2, natGateways: 1 });
    // Image layers come from S3 through this endpoint: free of charge, and not through the NAT gateway.
    this.vpc.addGatewayEndpoint('s3', { service: GatewayVpcEndpointAwsService.S3 });
    this.cluster = new Cluster(this, 'cluster', {
      vpc: this.vpc,
      clusterName: 'grpc-suite',
      containerInsightsV2: ContainerInsights.ENABLED,
    });
    // The namespace of the servers' names: greeter.grpc-suite.local
    this.namespace = new PrivateDnsNamespace(this, 'namespace', { vpc: this.vpc, name: 'grpc-suite.local' });

    const repositories = Object.keys(SERVERS).map((name) => new Repository(this, `${name}-images`, {
      repositoryName: `grpc-suite/${name}`,
      imageScanOnPush: true,
      // Each version can be pushed only once.
      imageTagMutability: TagMutability.IMMUTABLE,
      emptyOnDelete: true,
      removalPolicy: RemovalPolicy.DESTROY,
    }));
    const logs = Object.keys(SERVERS).map((name) => new LogGroup(this, `${name}-logs`, {
      logGroupName: `/ecs/grpc-suite/${name}`,
      retention: RetentionDays.ONE_MONTH,
      removalPolicy: RemovalPolicy.DESTROY,
    }));

    const execution = role(this, 'execution');
    repositories.forEach((repository) => repository.grantPull(execution));
    logs.forEach((group) => group.grantWrite(execution));
    // The servers call no AWS API.
    role(this, 'task');
    Validations.of(this).acknowledge(
      { id: 'AwsSolutions-VPC7', reason: 'Flow logs are billed by what they hold; the servers log each call.' },
      { id: 'AwsSolutions-IAM5[Resource::*]', reason: 'ecr:GetAuthorizationToken knows no resources.' },
    );
  }
}

/** A role of tasks, with the name that the task definitions use; role names are shared by all regions. */
function role(stack: Stack, name: string): Role {
  return new Role(stack, `${name}-role`, {
    roleName: `grpc-suite-${name}-${Aws.REGION}`,
    assumedBy: new ServicePrincipal('ecs-tasks.amazonaws.com'),
  });
}
