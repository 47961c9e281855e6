import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { App } from 'aws-cdk-lib';
import { ROOT } from '../lib/settings';
import { suite } from '../lib/suite';
import { SERVERS, Server } from '../lib/task-definition';

const DIGEST = `sha256:${'0'.repeat(64)}`;
const ACCOUNT = {
  domain: 'grpc.example.com',
  certificateArn: 'arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000',
  routeGuideDigest: DIGEST,
  greeterDigest: DIGEST,
  lambda: 'placeholder',
};

export const text = (path: string) => readFileSync(join(ROOT, path), 'utf8');

export interface Resource {
  stack: string;
  id: string;
  Type: string;
  Properties: any;
  DependsOn?: string[];
}

/** The stacks' resources by construct path, and the task definitions' files. */
export type Documents = Map<string, Resource>;

export function synthesize(): Documents {
  const { context } = JSON.parse(text('ecs/cdk/cdk.json'));
  const app = new App({ context: { ...context, ...ACCOUNT, 'aws:cdk:enable-path-metadata': true } });
  suite(app);
  const documents: Documents = new Map();
  for (const { stackName: stack, template } of app.synth().stacks) {
    for (const [id, resource] of Object.entries<any>(template.Resources)) {
      const path = resource.Metadata['aws:cdk:path'].replace(/^grpc-suite-|\/Resource$/g, '');
      documents.set(path, { stack, id, ...resource, Properties: resource.Properties ?? {} });
    }
    for (const [id, output] of Object.entries<any>(template.Outputs ?? {})) {
      documents.set(output.Export?.Name ?? `${stack}/${id}`, { stack, id, Type: 'Output', Properties: output });
    }
  }
  for (const name of Object.keys(SERVERS)) {
    const file = `task-definitions/${name}.json`;
    documents.set(file, { stack: '', id: file, Type: 'File', Properties: JSON.parse(text(`ecs/${file}`)) });
  }
  return documents;
}

/** An ECS service with the resources that it refers to, in any stack. */
export interface Running {
  name: Server;
  service: Resource;
  definition: any;
  container: any;
  targets: Resource;
}

export class Suite {
  constructor(private documents: Documents) {}

  /** A resource by its path, or by a part of the path that is unambiguous. */
  at(path: string): Resource {
    const found = this.documents.get(path) ?? [...this.documents].find(([whole]) => whole.startsWith(path))?.[1];
    if (!found) throw new Error(`there is no ${path}`);
    return found;
  }

  all(type: string): Resource[] {
    return [...this.documents.values()].filter((document) => document.Type === `AWS::${type}`);
  }

  path(resource: Resource): string {
    return [...this.documents].find(([, document]) => document === resource)![0];
  }

  /** The resource that a template value refers to. */
  behind(stack: string, value: any): Resource | undefined {
    if (value?.['Fn::ImportValue']) {
      const output = this.documents.get(value['Fn::ImportValue']);
      return output && this.behind(output.stack, output.Properties.Value);
    }
    const id = value?.Ref ?? value?.['Fn::GetAtt']?.[0];
    return [...this.documents.values()].find((found) => found.stack === stack && found.id === id);
  }

  get servers(): Running[] {
    return this.all('ECS::Service').map((service) => {
      const { ServiceName, TaskDefinition, LoadBalancers } = service.Properties;
      const definition = this.behind(service.stack, TaskDefinition)!.Properties;
      const targets = this.behind(service.stack, LoadBalancers[0].TargetGroupArn)!;
      return { name: ServiceName, service, definition, container: definition.ContainerDefinitions[0], targets };
    });
  }
}

/** The text of a value: values known only at deployment are in braces, as in the task definitions' files. */
export function plain(value: any): string {
  const names: Record<string, string> = { 'AWS::AccountId': 'AWS_ACCOUNT_ID', 'AWS::Region': 'AWS_REGION' };
  if (value?.Ref) return `\${${names[value.Ref] ?? value.Ref}}`;
  if (value?.['Fn::Join']) return value['Fn::Join'][1].map(plain).join(value['Fn::Join'][0]);
  return typeof value === 'string' ? value : `\${${JSON.stringify(value)}}`;
}

/** Attributes as a record of Key and Value. */
export const attributes = (list: any[] = []): Record<string, string> =>
  Object.fromEntries(list.map(({ Key, Value }) => [Key, Value]));

const quoted = (cell: string) => [...cell.matchAll(/`([^`]*)`/g)].map(([, word]) => word);
const rows = text('README.md').split('\n').map((line) => line.split('|').slice(1, -1));

/** The servers' settings and defaults from the README, which a test checks against the binaries. */
export const SETTINGS: Record<string, string> = Object.fromEntries(
  rows.filter(([flag]) => flag?.startsWith(' `--')).flatMap(([, variables, defaults]) =>
    quoted(variables).map((variable, index) => [variable, quoted(defaults)[index] ?? ''])),
);

/** The port and service of each server, from the README. */
export const SERVED: Record<string, { port: number; service: string }> = Object.fromEntries(
  rows.filter(([server, port]) => quoted(server ?? '')[0] && Number(port)).map(([server, port, service]) =>
    [quoted(server)[0], { port: Number(port), service: quoted(service)[0] }]),
);

/** A server's setting, from its container's environment or its default. */
const setting = (container: any, variable: string): string =>
  container.Environment.find(({ Name }: any) => Name === variable)?.Value ?? SETTINGS[variable];

/** A server's setting in seconds; a bare number is seconds. */
export function seconds(container: any, variable: string): number {
  const [, number, unit] = /^(\d+)(ms|s|m|h)?$/.exec(setting(container, variable)) ?? [];
  return Number(number) * { ms: 0.001, s: 1, m: 60, h: 3600 }[(unit ?? 's') as 's'];
}

/** A server's setting that is a number, or a size in bytes. */
export function amount(container: any, variable: string): number {
  const [, number, unit] = /^(\d+)(KiB|MiB|GiB)?$/.exec(setting(container, variable)) ?? [];
  return Number(number) * { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[(unit ?? '') as ''];
}
