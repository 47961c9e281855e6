import { CfnOutput, Duration, RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import { HttpApi, HttpMethod, LogGroupLogDestination } from 'aws-cdk-lib/aws-apigatewayv2';
import { HttpLambdaIntegration } from 'aws-cdk-lib/aws-apigatewayv2-integrations';
import {
  ApplicationListener, ApplicationListenerRule, ApplicationTargetGroup, ListenerAction, ListenerCondition,
  TargetType,
} from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import { LambdaTarget } from 'aws-cdk-lib/aws-elasticloadbalancingv2-targets';
import { Architecture, Function, Runtime } from 'aws-cdk-lib/aws-lambda';
import { LogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { code, managedPolicy } from './settings';
import { SERVERS } from './task-definition';

/** The Greeter as a function, for gRPC-Web: a function's response has no field for the trailers of native gRPC. */
export class LambdaServer extends Stack {
  constructor(scope: Construct, id: string, listener: ApplicationListener) {
    super(scope, id);
    const logs = (name: string) => new LogGroup(this, `${name}-logs`, {
      logGroupName: `/aws/lambda/grpc-suite-${name}`,
      retention: RetentionDays.ONE_MONTH,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    const greeter = new Function(this, 'greeter', {
      functionName: 'grpc-suite-greeter-lambda',
      runtime: Runtime.PROVIDED_AL2023,
      architecture: Architecture.ARM_64,
      handler: 'bootstrap',
      code: code(this, 'greeter-lambda'),
      memorySize: 128,
      // Both entry points wait 30 seconds at most.
      timeout: Duration.seconds(29),
      logGroup: logs('greeter-lambda'),
    });

    const api = new HttpApi(this, 'api', { apiName: 'grpc-suite', createDefaultStage: false });
    // For every service and method: an unknown one gets a gRPC status from the function, too.
    api.addRoutes({
      path: '/{service}/{method}',
      methods: [HttpMethod.POST],
      integration: new HttpLambdaIntegration('function', greeter),
    });
    api.addStage('stage', {
      autoDeploy: true,
      throttle: { rateLimit: 100, burstLimit: 100 },
      accessLogSettings: { destination: new LogGroupLogDestination(logs('api')) },
    });

    // On the servers' ALB, before the rule that sends the Greeter's gRPC to ECS: that rule's targets have no HTTP/1.1.
    const targets = new ApplicationTargetGroup(this, 'targets', {
      targetType: TargetType.LAMBDA,
      targets: [new LambdaTarget(greeter)],
      multiValueHeadersEnabled: true,
    });
    new ApplicationListenerRule(this, 'rule', {
      listener,
      priority: 5,
      conditions: [
        ListenerCondition.pathPatterns([`/${SERVERS.greeter}/*`]),
        ListenerCondition.httpHeader('content-type', ['application/grpc-web*']),
      ],
      action: ListenerAction.forward([targets]),
    });

    // SayHello with {"name": "you"}: one byte of flags, four of length, then the message.
    const request = String.raw`printf '\0\0\0\0\5\12\3you'`;
    const curl = 'curl --silent --header content-type:application/grpc-web+proto --data-binary @-';
    new CfnOutput(this, 'Bash', {
      value: `${request} | ${curl} ${api.apiEndpoint}/${SERVERS.greeter}/SayHello | strings`,
    });
    Validations.of(greeter).acknowledge({
      id: managedPolicy('service-role/AWSLambdaBasicExecutionRole'), reason: 'Lambda’s own, for logs.',
    });
    Validations.of(api).acknowledge({
      id: 'AwsSolutions-APIG4', reason: 'Whoever finds the name may greet, as at the ALB.',
    });
  }
}
