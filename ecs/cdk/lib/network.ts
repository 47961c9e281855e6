import { Aws, RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import { GatewayVpcEndpointAwsService, Vpc } from 'aws-cdk-lib/aws-ec2';
import { Repository, TagMutability } from 'aws-cdk-lib/aws-ecr';
import { Cluster, ContainerInsights } from 'aws-cdk-lib/aws-ecs';
import { Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { LogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs';
import { PrivateDnsNamespace } from 'aws-cdk-lib/aws-servicediscovery';
import { Construct } from 'constructs';
import { SERVERS } from './task-definition';

/** What tasks run in, and all that their task definitions name: images, log groups, roles. */
export class Network extends Stack {
  readonly vpc: Vpc;
  readonly cluster: Cluster;
  readonly namespace: PrivateDnsNamespace;

  constructor(scope: Construct, id: string) {
    super(scope, id);
    // One NAT gateway, for tasks to fetch images and write logs; without its zone, tasks that run go on.
    this.vpc = new Vpc(this, 'vpc', { maxAzs: 2, natGateways: 1 });
    // The layers of images come from S3: free of charge, and past the NAT gateway.
    this.vpc.addGatewayEndpoint('s3', { service: GatewayVpcEndpointAwsService.S3 });
    this.cluster = new Cluster(this, 'cluster', {
      vpc: this.vpc,
      clusterName: 'grpc-suite',
      containerInsightsV2: ContainerInsights.ENABLED,
    });
    // A name for each server: greeter.grpc-suite.local
    this.namespace = new PrivateDnsNamespace(this, 'namespace', { vpc: this.vpc, name: 'grpc-suite.local' });

    const repositories = Object.keys(SERVERS).map((name) => new Repository(this, `${name}-images`, {
      repositoryName: `grpc-suite/${name}`,
      imageScanOnPush: true,
      // A version is pushed once.
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
    // The servers call nothing of AWS.
    role(this, 'task');
    Validations.of(this).acknowledge(
      { id: 'AwsSolutions-VPC7', reason: 'Flow logs are billed by what they hold; the servers log each call.' },
      { id: 'AwsSolutions-IAM5[Resource::*]', reason: 'ecr:GetAuthorizationToken knows no resources.' },
    );
  }
}

/** A role of tasks, by the name that the task definitions have for it; roles of all regions share names. */
function role(stack: Stack, name: string): Role {
  return new Role(stack, `${name}-role`, {
    roleName: `grpc-suite-${name}-${Aws.REGION}`,
    assumedBy: new ServicePrincipal('ecs-tasks.amazonaws.com'),
  });
}
