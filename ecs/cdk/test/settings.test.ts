import { deepEqual } from 'node:assert';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { App } from 'aws-cdk-lib';
import { ROOT } from '../lib/settings';
import { suite } from '../lib/suite';

const built = (name: string) =>
  [`target/lambda/${name}/bootstrap.zip`].filter((zip) => !existsSync(join(ROOT, zip)));

const MISSING = /^say -c (\w+)=…$|^.*(target\/.*) is not there.*$/;

test('only stacks that need a setting or a function cannot be deployed without it', () => {
  const app = new App();
  suite(app);
  const missing = app.synth().stacks.map(({ stackName, messages }) => {
    const errors = messages.filter(({ level }) => level === 'error').map(({ entry }) => String(entry.data));
    return [stackName, errors.map((error) => error.replace(MISSING, '$1$2'))];
  });
  deepEqual(Object.fromEntries(missing), {
    'grpc-suite-network': [],
    'grpc-suite-lattice': ['domain', 'certificateArn'],
    'grpc-suite-services': ['certificateArn', 'routeGuideDigest', 'greeterDigest'],
    'grpc-suite-cloudfront': ['domain'],
    'grpc-suite-lambda': built('greeter-caller'),
    'grpc-suite-lambda-server': built('greeter-lambda'),
  });
});
