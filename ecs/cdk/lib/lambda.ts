import { CfnOutput, Duration, RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import { Port, SecurityGroup, Vpc } from 'aws-cdk-lib/aws-ec2';
import { Architecture, Function, Runtime } from 'aws-cdk-lib/aws-lambda';
import { LogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { GrpcService } from './grpc-service';
import { code, managedPolicy } from './settings';

/** A function in the VPC that calls the Greeter on ECS. */
export class Lambda extends Stack {
  constructor(scope: Construct, id: string, vpc: Vpc, greeter: GrpcService) {
    super(scope, id);
    const group = new SecurityGroup(this, 'group', {
      vpc, description: 'Function that calls the Greeter', allowAllOutbound: false,
    });
    group.connections.allowTo(greeter.group, Port.tcp(greeter.port), 'Calls');
    const name = 'grpc-suite-greeter-caller';
    const caller = new Function(this, 'caller', {
      functionName: name,
      runtime: Runtime.PROVIDED_AL2023,
      architecture: Architecture.ARM_64,
      handler: 'bootstrap',
      code: code(this, 'greeter-caller'),
      vpc,
      securityGroups: [group],
      environment: { GREETER_URL: `dns:///${greeter.domain}:${greeter.port}` },
      memorySize: 128,
      timeout: Duration.seconds(10),
      logGroup: new LogGroup(this, 'logs', {
        logGroupName: `/aws/lambda/${name}`,
        retention: RetentionDays.ONE_MONTH,
        removalPolicy: RemovalPolicy.DESTROY,
      }),
    });
    const invoke = `aws lambda invoke --function-name ${name} --payload fileb://event.json reply.json`;
    new CfnOutput(this, 'Bash', { value: `echo '{"name": "you"}' > event.json && ${invoke} && cat reply.json` });
    // PowerShell 5.1 and 7 quote arguments differently; a file avoids that.
    new CfnOutput(this, 'PowerShell', {
      value: `'{"name": "you"}' | Set-Content -Encoding ascii event.json; ${invoke}; Get-Content reply.json`,
    });
    new CfnOutput(this, 'Logs', { value: `aws logs tail /aws/lambda/${name} --since 5m` });
    Validations.of(caller).acknowledge(
      { id: managedPolicy('service-role/AWSLambdaBasicExecutionRole'), reason: 'Lambda’s own, for logs.' },
      { id: managedPolicy('service-role/AWSLambdaVPCAccessExecutionRole'), reason: 'Lambda’s own, for a VPC.' },
    );
  }
}
