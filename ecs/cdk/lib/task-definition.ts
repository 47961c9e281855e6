import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Aws, Stack } from 'aws-cdk-lib';
import { CfnTaskDefinitionProps } from 'aws-cdk-lib/aws-ecs';
import { ROOT, setting } from './settings';

/** The servers, and the service that callers use of each. Their ports are in their task definitions. */
export const SERVERS = { 'route-guide': 'routeguide.RouteGuide', greeter: 'helloworld.Greeter' };

export type Server = keyof typeof SERVERS;

const read = (name: Server) => readFileSync(join(ROOT, 'ecs/task-definitions', `${name}.json`), 'utf8');

/** A server's task definition, as in its file: `aws ecs` and CDK use the same field names. */
export function taskDefinition(stack: Stack, name: Server): CfnTaskDefinitionProps {
  const variables: Record<string, () => string> = {
    AWS_ACCOUNT_ID: () => Aws.ACCOUNT_ID,
    AWS_REGION: () => Aws.REGION,
    ROUTE_GUIDE_DIGEST: () => setting(stack, 'routeGuideDigest'),
    GREETER_DIGEST: () => setting(stack, 'greeterDigest'),
  };
  return JSON.parse(read(name).replace(/\$\{(\w+)\}/g, (_, variable) => variables[variable]()));
}

/** The ports of a server's only container, by name. */
export function ports(name: Server): Record<'grpc' | 'admin', number> {
  const [container] = JSON.parse(read(name)).containerDefinitions;
  return Object.fromEntries(container.portMappings.map((port: any) => [port.name, port.containerPort])) as any;
}
