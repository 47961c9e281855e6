import { Suite, SERVED } from '../suite';
import { differs, Rule } from './rule';

const CACHE = 'DistributionConfig/DefaultCacheBehavior';
const ORIGIN = 'DistributionConfig/Origins/0';
const METHODS = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'PATCH', 'POST', 'DELETE'];

const distribution = (suite: Suite) => suite.at('cloudfront/distribution').Properties.DistributionConfig;

const functions: [path: string, seconds: number][] = [['lambda/caller', 10], ['lambda-server/greeter', 29]];

export const entries: Rule[] = [
  {
    says: 'CloudFront accepts gRPC from its callers',
    *problems(suite) {
      const { HttpVersion, DefaultCacheBehavior } = distribution(suite);
      const { GrpcConfig, AllowedMethods, ViewerProtocolPolicy } = DefaultCacheBehavior;
      yield* differs('callers', [GrpcConfig, HttpVersion, ViewerProtocolPolicy, AllowedMethods],
        [{ Enabled: true }, 'http2', 'https-only', METHODS]);
    },
    mistakes: [
      ['cloudfront/distribution', `${CACHE}/GrpcConfig`, null],
      ['cloudfront/distribution', `${CACHE}/GrpcConfig/Enabled`, false],
      ['cloudfront/distribution', `${CACHE}/AllowedMethods`, ['GET', 'HEAD']],
      ['cloudfront/distribution', `${CACHE}/AllowedMethods`, null],
      ['cloudfront/distribution', `${CACHE}/ViewerProtocolPolicy`, 'allow-all'],
      ['cloudfront/distribution', 'DistributionConfig/HttpVersion', 'http1.1'],
      ['cloudfront/distribution', 'DistributionConfig/HttpVersion', null],
    ],
  },
  {
    says: 'CloudFront forwards all calls, by HTTPS, to the name on the certificate',
    *problems(suite) {
      const { Origins: [origin], DefaultCacheBehavior: { TargetOriginId, CachePolicyId, OriginRequestPolicyId } } =
        distribution(suite);
      // CachingDisabled; AllViewerExceptHostHeader.
      yield* differs('policies', [CachePolicyId, OriginRequestPolicyId],
        ['4135ea2d-6df8-44a3-9df3-4b5a84be39ad', 'b689b0a8-53d0-40ab-baf2-68738e2966ac']);
      yield* differs('origin', origin, {
        Id: TargetOriginId,
        DomainName: 'grpc.example.com',
        CustomOriginConfig: {
          OriginProtocolPolicy: 'https-only',
          OriginSSLProtocols: ['TLSv1.2'],
          OriginReadTimeout: 60,
          OriginKeepaliveTimeout: 60,
        },
      });
    },
    mistakes: [
      ['cloudfront/distribution', `${ORIGIN}/CustomOriginConfig/OriginProtocolPolicy`, 'http-only'],
      ['cloudfront/distribution', `${ORIGIN}/CustomOriginConfig/OriginProtocolPolicy`, 'match-viewer'],
      ['cloudfront/distribution', `${ORIGIN}/CustomOriginConfig/OriginSSLProtocols/0`, 'TLSv1'],
      ['cloudfront/distribution', `${ORIGIN}/CustomOriginConfig/OriginReadTimeout`, 10],
      ['cloudfront/distribution', `${ORIGIN}/DomainName`, 'alb.us-east-1.elb.amazonaws.com'],
      ['cloudfront/distribution', `${CACHE}/CachePolicyId`, '658327ea-f89d-4fab-a63d-7e88639e58f6'],
      ['cloudfront/distribution', `${CACHE}/OriginRequestPolicyId`, null],
    ],
  },
  {
    says: 'Functions are built by cargo lambda, for ARM, and log to groups with their names',
    *problems(suite) {
      for (const [path, seconds] of functions) {
        const { stack, Properties } = suite.at(path);
        const { Runtime, Handler, Architectures, Timeout, LoggingConfig, FunctionName } = Properties;
        yield* differs(path, [Runtime, Handler, Architectures, Timeout],
          ['provided.al2023', 'bootstrap', ['arm64'], seconds]);
        const logs = suite.behind(stack, LoggingConfig?.LogGroup);
        yield* differs(path, logs?.Properties.LogGroupName, `/aws/lambda/${FunctionName}`);
      }
    },
    mistakes: [
      ['lambda/caller', 'Runtime', 'provided.al2'],
      ['lambda/caller', 'Architectures', null],
      ['lambda-server/greeter', 'Timeout', 60],
      ['lambda-server/greeter', 'Timeout', null],
      ['lambda/logs', 'LogGroupName', '/aws/lambda/caller'],
    ],
  },
  {
    says: 'The calling function uses a name and a port of the Greeter, in its VPC',
    *problems(suite) {
      const { stack, Properties } = suite.at('lambda/caller');
      const [namespace] = suite.all('ServiceDiscovery::PrivateDnsNamespace');
      const names = suite.all('ServiceDiscovery::Service').map((service) => service.Properties.Name);
      const { GREETER_URL } = Properties.Environment.Variables;
      const [, name, zone, port] = /^dns:\/\/\/([a-z]+)\.([a-z.-]+):(\d+)$/.exec(GREETER_URL) ?? [];
      yield* differs('GREETER_URL', [name, zone, Number(port)],
        ['greeter', namespace.Properties.Name, SERVED.greeter.port]);
      if (!names.includes(name)) yield `no name ${name}`;
      const vpc = suite.all('EC2::VPC')[0];
      const subnets = (Properties.VpcConfig?.SubnetIds ?? []).map((id: any) => suite.behind(stack, id));
      if (subnets.length < 2) yield `${subnets.length} subnets`;
      for (const of of [namespace.Properties.Vpc, ...subnets.map((subnet: any) => subnet?.Properties.VpcId)]) {
        if (suite.behind('grpc-suite-network', of) !== vpc) yield 'another VPC';
      }
    },
    mistakes: [
      ['lambda/caller', 'Environment/Variables/GREETER_URL', 'dns:///greeter:9000'],
      ['lambda/caller', 'Environment/Variables/GREETER_URL', 'dns:///greeter.grpc-suite.local:50051'],
      ['lambda/caller', 'Environment/Variables/GREETER_URL', 'dns:///greeter.grpc-suite.internal:9000'],
      ['lambda/caller', 'VpcConfig', null],
      ['network/namespace', 'Name', 'grpc.local'],
      ['network/namespace', 'Vpc', 'vpc-0'],
      ['services/greeter/addresses', 'Name', 'greeting'],
    ],
  },
  {
    says: 'The rule for gRPC-Web to the function precedes that for gRPC to ECS, on the same ALB',
    *problems(suite) {
      const rule = suite.at('lambda-server/rule');
      const { Conditions, Priority, ListenerArn, Actions } = rule.Properties;
      const web = { HttpHeaderName: 'content-type', Values: ['application/grpc-web*'] };
      yield* differs('conditions', Conditions, [
        { Field: 'path-pattern', PathPatternConfig: { Values: [`/${SERVED.greeter.service}/*`] } },
        { Field: 'http-header', HttpHeaderConfig: web },
      ]);
      if (!(Priority < suite.at('services/greeter/rule').Properties.Priority)) yield `only ${Priority}th`;
      if (suite.behind(rule.stack, ListenerArn) !== suite.at('services/alb/https')) yield 'at another listener';
      const targets = suite.behind(rule.stack, Actions[0].TargetGroupArn)!;
      const { TargetType, Targets, ProtocolVersion, TargetGroupAttributes } = targets.Properties;
      yield* differs('targets', [TargetType, ProtocolVersion, suite.behind(targets.stack, Targets[0].Id)],
        ['lambda', undefined, suite.at('lambda-server/greeter')]);
      const several = TargetGroupAttributes?.find(({ Key }: any) => Key === 'lambda.multi_value_headers.enabled');
      yield* differs('headers', several?.Value, 'true');
      const admitted = suite.all('Lambda::Permission').map(({ Properties }) => Properties.Principal);
      if (!admitted.includes('elasticloadbalancing.amazonaws.com')) yield 'the ALB may not call it';
    },
    mistakes: [
      ['lambda-server/rule', 'Priority', 30],
      ['lambda-server/rule', 'Conditions/1', null],
      ['lambda-server/rule', 'Conditions/1/HttpHeaderConfig/Values/0', 'application/grpc*'],
      ['lambda-server/rule', 'ListenerArn', { Ref: 'another' }],
      ['lambda-server/targets', 'ProtocolVersion', 'GRPC'],
      ['lambda-server/targets', 'TargetType', 'ip'],
      ['lambda-server/targets', 'TargetGroupAttributes', null],
      ['lambda-server/greeter/Invoke', 'Principal', 'apigateway.amazonaws.com'],
    ],
  },
  {
    says: 'API Gateway forwards every POST to the function unchanged',
    *problems(suite) {
      const [route] = suite.all('ApiGatewayV2::Route');
      const [integration] = suite.all('ApiGatewayV2::Integration');
      const { IntegrationType, PayloadFormatVersion, IntegrationUri } = integration.Properties;
      yield* differs('route', route.Properties.RouteKey, 'POST /{service}/{method}');
      yield* differs('integration', [IntegrationType, PayloadFormatVersion], ['AWS_PROXY', '2.0']);
      const called = suite.behind(integration.stack, IntegrationUri);
      if (called !== suite.at('lambda-server/greeter')) yield 'to another function';
      const [api] = suite.all('ApiGatewayV2::Api');
      yield* differs('api', api.Properties.ProtocolType, 'HTTP');
      const [stage] = suite.all('ApiGatewayV2::Stage');
      yield* differs('stage', [stage.Properties.StageName, stage.Properties.AutoDeploy], ['$default', true]);
      const admitted = suite.all('Lambda::Permission').map(({ Properties }) => Properties.Principal);
      if (!admitted.includes('apigateway.amazonaws.com')) yield 'the API may not call it';
    },
    mistakes: [
      ['lambda-server/api/POST--{service}--{method}', 'RouteKey', 'GET /{service}/{method}'],
      ['lambda-server/api/POST--{service}--{method}/function', 'PayloadFormatVersion', '1.0'],
      ['lambda-server/api/POST--{service}--{method}/function', 'IntegrationUri', 'another'],
      ['lambda-server/api/POST--{service}--{method}/function-Permission', 'Principal', 'events.amazonaws.com'],
      ['lambda-server/api/stage', 'AutoDeploy', false],
    ],
  },
  {
    says: 'Lattice accepts gRPC by HTTPS, and routes calls to the server of their service',
    *problems(suite) {
      const { CertificateArn, CustomDomainName, IdleTimeoutSeconds } = suite.at('lattice/service').Properties;
      yield* differs('name', [!CertificateArn, CustomDomainName], [false, 'lattice.grpc.example.com']);
      yield* differs('seconds of silence', IdleTimeoutSeconds, 300);
      const listener = suite.at('lattice/listener').Properties;
      yield* differs('listener', [listener.Protocol, listener.Port, listener.DefaultAction],
        ['HTTPS', 443, { FixedResponse: { StatusCode: 404 } }]);
      for (const [name, { service }] of Object.entries(SERVED)) {
        const rule = suite.at(`lattice/${name}-rule`);
        yield* differs(name, rule.Properties.Match.HttpMatch, { PathMatch: { Match: { Prefix: `/${service}/` } } });
        const [{ TargetGroupIdentifier }] = rule.Properties.Action.Forward.TargetGroups;
        const targets = suite.behind(rule.stack, TargetGroupIdentifier);
        if (targets !== suite.at(`lattice/${name}-targets`)) yield `${name}: elsewhere`;
      }
    },
    mistakes: [
      ['lattice/listener', 'Protocol', 'HTTP'],
      ['lattice/listener', 'Port', 80],
      ['lattice/service', 'CertificateArn', null],
      ['lattice/service', 'IdleTimeoutSeconds', null],
      ['lattice/greeter-rule', 'Match/HttpMatch/PathMatch/Match/Prefix', '/helloworld/'],
      ['lattice/greeter-rule', 'Action/Forward/TargetGroups/0/TargetGroupIdentifier/Ref', 'routeguidetargets252D6D0D'],
    ],
  },
];
