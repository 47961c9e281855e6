import { CfnOutput, Duration, Stack, Validations } from 'aws-cdk-lib';
import { Alarm, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { Peer, Port, SecurityGroup, Vpc } from 'aws-cdk-lib/aws-ec2';
import { Cluster } from 'aws-cdk-lib/aws-ecs';
import {
  ApplicationListener, ApplicationLoadBalancer, ApplicationProtocol, HttpCodeElb, ListenerAction,
  ListenerCertificate, SslPolicy,
} from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import { PrivateDnsNamespace } from 'aws-cdk-lib/aws-servicediscovery';
import { Construct } from 'constructs';
import { GrpcService } from './grpc-service';
import { Lattice } from './lattice';
import { setting } from './settings';

/** Both servers behind one ALB, routed by path. */
export class Services extends Stack {
  readonly listener: ApplicationListener;
  readonly servers: Record<'route-guide' | 'greeter', GrpcService>;

  constructor(
    scope: Construct, id: string, vpc: Vpc, cluster: Cluster, namespace: PrivateDnsNamespace, lattice?: Lattice,
  ) {
    super(scope, id);
    const callers = new SecurityGroup(this, 'alb-group', {
      vpc, description: 'ALB: callers from anywhere', allowAllOutbound: false,
    });
    callers.addIngressRule(Peer.anyIpv4(), Port.tcp(443), 'Callers');
    const alb = new ApplicationLoadBalancer(this, 'alb', {
      vpc,
      loadBalancerName: 'grpc-suite',
      internetFacing: true,
      securityGroup: callers,
      // As long as the server allows a silent stream (STREAM_IDLE_TIMEOUT). PING does not count.
      idleTimeout: Duration.seconds(300),
      clientKeepAlive: Duration.seconds(3600),
      http2Enabled: true,
    });
    this.listener = alb.addListener('https', {
      // gRPC needs HTTPS.
      protocol: ApplicationProtocol.HTTPS,
      port: 443,
      open: false,
      certificates: [ListenerCertificate.fromArn(setting(this, 'certificateArn'))],
      sslPolicy: SslPolicy.RECOMMENDED_TLS,
      // UNIMPLEMENTED to gRPC clients. Reflection and health deliberately have no rule.
      defaultAction: ListenerAction.fixedResponse(404),
    });
    // 502, 503 and 504 of the ALB itself. The servers' own errors are HTTP 200, with their code in a trailer.
    const errors = new Alarm(this, '5xx', {
      metric: alb.metrics.httpCodeElb(HttpCodeElb.ELB_5XX_COUNT, { period: Duration.minutes(1) }),
      alarmDescription: 'The ALB answers calls itself, with 5xx',
      threshold: 10,
      evaluationPeriods: 3,
      treatMissingData: TreatMissingData.NOT_BREACHING,
    });
    const service = (name: 'route-guide' | 'greeter', priority: number) => new GrpcService(this, name, {
      vpc, cluster, namespace, lattice, listener: this.listener, errors, priority,
    });
    this.servers = { 'route-guide': service('route-guide', 10), greeter: service('greeter', 20) };

    // The target of the domain's record.
    new CfnOutput(this, 'LoadBalancer', { value: alb.loadBalancerDnsName });
    Validations.of(this).acknowledge({ id: 'AwsSolutions-ECS2', reason: 'Limits are no secrets.' });
    Validations.of(callers).acknowledge({ id: 'AwsSolutions-EC23', reason: 'It is a public entry.' });
    Validations.of(alb).acknowledge({ id: 'AwsSolutions-ELB2', reason: 'The servers log each call, with its peer.' });
  }
}
