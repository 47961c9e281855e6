import { App } from 'aws-cdk-lib';
import { Cloudfront } from './cloudfront';
import { Lambda } from './lambda';
import { LambdaServer } from './lambda-server';
import { Lattice } from './lattice';
import { Network } from './network';
import { Services } from './services';

/** All stacks. None names an account or a region: those of the deployment are used. */
export function suite(app: App) {
  const { vpc, cluster, namespace } = new Network(app, 'grpc-suite-network');
  const lattice = new Lattice(app, 'grpc-suite-lattice', vpc);
  // Without its last argument, no task is registered with Lattice.
  const { listener, servers } = new Services(app, 'grpc-suite-services', vpc, cluster, namespace, lattice);
  new Cloudfront(app, 'grpc-suite-cloudfront');
  new Lambda(app, 'grpc-suite-lambda', vpc, servers.greeter);
  new LambdaServer(app, 'grpc-suite-lambda-server', listener);
}
