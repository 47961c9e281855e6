import { CfnOutput, Duration, Stack, Validations } from 'aws-cdk-lib';
import {
  AllowedMethods, CachePolicy, Distribution, HttpVersion, OriginProtocolPolicy, OriginRequestPolicy,
  OriginSslPolicy, ViewerProtocolPolicy,
} from 'aws-cdk-lib/aws-cloudfront';
import { HttpOrigin } from 'aws-cdk-lib/aws-cloudfront-origins';
import { Construct } from 'constructs';
import { setting } from './settings';

/** gRPC through CloudFront to the ALB. */
export class Cloudfront extends Stack {
  constructor(scope: Construct, id: string) {
    super(scope, id);
    const distribution = new Distribution(this, 'distribution', {
      comment: 'gRPC to the ALB',
      httpVersion: HttpVersion.HTTP2,
      defaultBehavior: {
        // The name on the certificate: no certificate contains the ALB's own name.
        origin: new HttpOrigin(setting(this, 'domain'), {
          protocolPolicy: OriginProtocolPolicy.HTTPS_ONLY,
          originSslProtocols: [OriginSslPolicy.TLS_V1_2],
          // Maximum time without data on a stream; AWS raises this quota on request.
          readTimeout: Duration.seconds(60),
          keepaliveTimeout: Duration.seconds(60),
        }),
        enableGrpc: true,
        // gRPC uses POST, which CloudFront allows only together with all seven methods.
        allowedMethods: AllowedMethods.ALLOW_ALL,
        viewerProtocolPolicy: ViewerProtocolPolicy.HTTPS_ONLY,
        cachePolicy: CachePolicy.CACHING_DISABLED,
        // Forwards all metadata. Host stays the origin's, so that it matches the certificate.
        originRequestPolicy: OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
      },
    });
    new CfnOutput(this, 'Domain', { value: distribution.distributionDomainName });
    Validations.of(distribution).acknowledge(
      { id: 'AwsSolutions-CFR1', reason: 'Callers may be in any country.' },
      { id: 'AwsSolutions-CFR2', reason: 'A WAF is billed by itself; the servers bound what callers may take.' },
      { id: 'AwsSolutions-CFR3', reason: 'The servers log each call, with x-forwarded-for.' },
      { id: 'AwsSolutions-CFR4', reason: 'A name of CloudFront’s own takes no other policy.' },
    );
  }
}
