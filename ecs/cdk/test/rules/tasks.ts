import { amount, attributes, plain, SERVED, seconds, SETTINGS } from '../suite';
import { differs, each, Rule } from './rule';

const DEFINITION = 'services/greeter/definition';
const CONTAINER = 'ContainerDefinitions/0';

/** MiB of memory that Fargate offers for each amount of CPU; servers of this size need no more CPU. */
const MEMORY: Record<string, number[]> = { 256: [512, 1024, 2048], 512: [1024, 2048, 3072, 4096] };

/** Fields with CloudFormation's names; values known only at deployment are given by name. */
function capitalized(value: any): any {
  if (Array.isArray(value)) return value.map(capitalized);
  if (typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) =>
    // The names of options are kept.
    [key[0].toUpperCase() + key.slice(1), key === 'options' ? inner : capitalized(inner)]));
}

function deployed(value: any): any {
  if (Array.isArray(value)) return value.map(deployed);
  if (typeof value !== 'object') return value;
  if (value.Ref || value['Fn::Join']) return plain(value);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, deployed(inner)]));
}

export const tasks: Rule[] = [
  {
    says: 'A task definition is the same as in its file',
    problems: each(function* ({ name, definition }, suite) {
      const file = suite.at(`task-definitions/${name}.json`).Properties;
      const digest = `\${${name.replace('-', '_').toUpperCase()}_DIGEST}`;
      const found = JSON.stringify(deployed(definition)).replace(/sha256:0+/, digest);
      yield* differs('template', JSON.parse(found), capitalized(file));
    }),
    mistakes: [
      [DEFINITION, 'Memory', '1024'],
      [DEFINITION, `${CONTAINER}/StopTimeout`, 36],
      [DEFINITION, `${CONTAINER}/Environment/0`, null],
      ['task-definitions/greeter.json', 'containerDefinitions/0/image', 'greeter@${GREETER_DIGEST}'],
      ['task-definitions/greeter.json', 'containerDefinitions/0/logConfiguration/options/mode', 'blocking'],
      ['task-definitions/greeter.json', 'executionRoleArn', null],
    ],
  },
  {
    says: 'A task is valid for Fargate, on ARM',
    problems: each(function* ({ definition }) {
      const { RequiresCompatibilities, NetworkMode, Cpu, Memory, RuntimePlatform, ContainerDefinitions } = definition;
      yield* differs('task', [RequiresCompatibilities, NetworkMode, ContainerDefinitions.length],
        [['FARGATE'], 'awsvpc', 1]);
      if (!MEMORY[Cpu]?.includes(Number(Memory))) yield `${Memory} MiB for ${Cpu} units of CPU`;
      yield* differs('platform', RuntimePlatform, { CpuArchitecture: 'ARM64', OperatingSystemFamily: 'LINUX' });
    }),
    mistakes: [
      [DEFINITION, 'RequiresCompatibilities/0', 'EC2'],
      [DEFINITION, 'NetworkMode', 'bridge'],
      [DEFINITION, 'Cpu', '300'],
      [DEFINITION, 'Memory', '256'],
      [DEFINITION, 'RuntimePlatform', null],
      [DEFINITION, 'RuntimePlatform/CpuArchitecture', 'arm64'],
    ],
  },
  {
    says: 'The tasks’ roles are created, with the names of the task definitions',
    problems: each(function* ({ definition }, suite) {
      const roles = suite.all('IAM::Role').flatMap(({ Properties: { RoleName } }) => (RoleName ? plain(RoleName) : []));
      for (const field of ['ExecutionRoleArn', 'TaskRoleArn']) {
        const name = plain(definition[field]).replace('arn:aws:iam::${AWS_ACCOUNT_ID}:role/', '');
        if (!roles.includes(name)) yield `${field} ${name}`;
      }
    }),
    mistakes: [
      [DEFINITION, 'ExecutionRoleArn', null],
      [DEFINITION, 'ExecutionRoleArn', 'arn:aws:iam::${AWS_ACCOUNT_ID}:role/ecsTaskExecutionRole'],
      [DEFINITION, 'TaskRoleArn', null],
      ['network/task-role', 'RoleName', null],
    ],
  },
  {
    says: 'An image is referenced by digest, and its repository is created, with immutable tags',
    problems: each(function* ({ name, container }, suite) {
      const [, repository] = /\.amazonaws\.com\/([a-z-/]+)@sha256:[0-9a-f]{64}$/.exec(plain(container.Image)) ?? [];
      const found = suite.all('ECR::Repository').find(({ Properties }) => Properties.RepositoryName === repository);
      if (!repository?.endsWith(`/${name}`) || found?.Properties.ImageTagMutability !== 'IMMUTABLE') {
        yield plain(container.Image);
      }
    }),
    mistakes: [
      [DEFINITION, `${CONTAINER}/Image`, '1.dkr.ecr.us-east-1.amazonaws.com/grpc-suite/greeter:latest'],
      [DEFINITION, `${CONTAINER}/Image`, `1.dkr.ecr.us-east-1.amazonaws.com/greeter@sha256:${'0'.repeat(64)}`],
      ['network/greeter-images', 'RepositoryName', 'grpc-suite/greeting'],
      ['network/greeter-images', 'RepositoryName', null],
      ['network/greeter-images', 'ImageTagMutability', null],
    ],
  },
  {
    says: 'Ports are the server’s, with the names and the protocol that others use',
    problems: each(function* ({ name, container }) {
      const { port } = SERVED[name];
      yield* differs('ports', container.PortMappings, [
        { Name: 'grpc', ContainerPort: port, Protocol: 'tcp', AppProtocol: 'grpc' },
        { Name: 'admin', ContainerPort: port + 1, Protocol: 'tcp' },
      ]);
    }),
    mistakes: [
      [DEFINITION, `${CONTAINER}/PortMappings/0/ContainerPort`, 50051],
      [DEFINITION, `${CONTAINER}/PortMappings/0/HostPort`, 80],
      [DEFINITION, `${CONTAINER}/PortMappings/0/AppProtocol`, 'http2'],
      [DEFINITION, `${CONTAINER}/PortMappings/0/AppProtocol`, null],
      [DEFINITION, `${CONTAINER}/PortMappings/0/Name`, 'api'],
      [DEFINITION, `${CONTAINER}/PortMappings/1`, null],
    ],
  },
  {
    says: 'A container’s health check is a command that its image contains',
    problems: each(function* ({ name, container }) {
      const { Command, Interval, Timeout, Retries, StartPeriod } = container.HealthCheck ?? {};
      // The image contains no shell, only the server.
      yield* differs('command', Command, ['CMD', `/${name}`, 'healthcheck']);
      if (!(Timeout >= 2 && Timeout < Interval)) yield `${Timeout} s, every ${Interval}`;
      if (!(Interval >= 5 && Interval <= 300)) yield `every ${Interval} s`;
      if (!(Retries >= 1 && Retries <= 10 && StartPeriod <= 300)) yield `${Retries} times after ${StartPeriod} s`;
    }),
    mistakes: [
      [DEFINITION, `${CONTAINER}/HealthCheck`, null],
      [DEFINITION, `${CONTAINER}/HealthCheck/Command`, ['/greeter', 'healthcheck']],
      [DEFINITION, `${CONTAINER}/HealthCheck/Command`, ['CMD-SHELL', '/greeter healthcheck']],
      [DEFINITION, `${CONTAINER}/HealthCheck/Command/1`, '/bin/grpc_health_probe'],
      [DEFINITION, `${CONTAINER}/HealthCheck/Timeout`, 1],
      [DEFINITION, `${CONTAINER}/HealthCheck/Timeout`, 10],
      [DEFINITION, `${CONTAINER}/HealthCheck/Interval`, 301],
      [DEFINITION, `${CONTAINER}/HealthCheck/Retries`, 11],
      [DEFINITION, `${CONTAINER}/HealthCheck/StartPeriod`, 301],
    ],
  },
  {
    says: 'A task has time to end its calls itself, and five seconds to spare',
    problems: each(function* ({ container }) {
      const needed = seconds(container, 'LAME_DUCK') + seconds(container, 'DRAIN_TIMEOUT') + 5;
      const { StopTimeout } = container;
      if (!(StopTimeout >= needed && StopTimeout <= 120)) yield `${StopTimeout} s to end, and it takes ${needed}`;
    }),
    mistakes: [
      [DEFINITION, `${CONTAINER}/StopTimeout`, null],
      [DEFINITION, `${CONTAINER}/StopTimeout`, 30],
      [DEFINITION, `${CONTAINER}/StopTimeout`, 600],
      [DEFINITION, `${CONTAINER}/Environment/0`, { Name: 'DRAIN_TIMEOUT', Value: '30s' }],
      [DEFINITION, `${CONTAINER}/Environment/0`, { Name: 'LAME_DUCK', Value: 'soon' }],
    ],
  },
  {
    says: 'SIGTERM comes after calls of a minute have ended and the task’s DNS record has expired',
    // ECS deregisters a task from the target group and DNS, waits for the deregistration delay, and then stops it.
    problems: each(function* ({ service, targets, container }, suite) {
      const { 'deregistration_delay.timeout_seconds': said } = attributes(targets.Properties.TargetGroupAttributes);
      const delay = Number(said);
      const longest = Math.max(60, seconds(container, 'UNARY_TIMEOUT'));
      if (!(delay >= longest)) yield `SIGTERM after ${delay} s, calls of ${longest}`;
      const addresses = suite.behind(service.stack, service.Properties.ServiceRegistries[0].RegistryArn);
      const { TTL } = addresses!.Properties.DnsConfig.DnsRecords[0];
      if (!(2 * TTL <= delay)) yield `SIGTERM after ${delay} s, addresses live ${TTL}`;
    }),
    mistakes: [
      ['services/greeter/targets', 'TargetGroupAttributes/0/Value', '30'],
      ['services/greeter/targets', 'TargetGroupAttributes/0', null],
      [DEFINITION, `${CONTAINER}/Environment/0`, { Name: 'UNARY_TIMEOUT', Value: '2m' }],
      ['services/greeter/addresses', 'DnsConfig/DnsRecords/0/TTL', 60],
    ],
  },
  {
    says: 'A container has no privileges that it does not need',
    problems: each(function* ({ container }) {
      const { User, ReadonlyRootFilesystem, LinuxParameters, Privileged } = container;
      yield* differs('rights', [User, ReadonlyRootFilesystem, LinuxParameters, Privileged],
        ['65532:65532', true, { Capabilities: { Drop: ['ALL'] } }, undefined]);
    }),
    mistakes: [
      [DEFINITION, `${CONTAINER}/User`, null],
      [DEFINITION, `${CONTAINER}/ReadonlyRootFilesystem`, null],
      [DEFINITION, `${CONTAINER}/LinuxParameters/Capabilities/Add`, ['NET_ADMIN']],
      [DEFINITION, `${CONTAINER}/LinuxParameters/Capabilities/Drop`, null],
      [DEFINITION, `${CONTAINER}/Privileged`, true],
    ],
  },
  {
    says: 'Logs go to a group that is created, and never block the server',
    problems: each(function* ({ name, container }, suite) {
      const { LogDriver, Options } = container.LogConfiguration ?? {};
      const options = Object.fromEntries(Object.entries(Options ?? {}).map(([key, value]) => [key, plain(value)]));
      yield* differs('logs', { LogDriver, ...options }, {
        LogDriver: 'awslogs',
        'awslogs-group': `/ecs/grpc-suite/${name}`,
        'awslogs-region': '${AWS_REGION}',
        'awslogs-stream-prefix': 'task',
        mode: 'non-blocking',
        'max-buffer-size': '4m',
      });
      const groups = suite.all('Logs::LogGroup').map(({ Properties }) => Properties.LogGroupName);
      if (!groups.includes(options['awslogs-group'])) yield `no group ${options['awslogs-group']}`;
    }),
    mistakes: [
      [DEFINITION, `${CONTAINER}/LogConfiguration`, null],
      [DEFINITION, `${CONTAINER}/LogConfiguration/Options/mode`, null],
      [DEFINITION, `${CONTAINER}/LogConfiguration/Options/max-buffer-size`, null],
      [DEFINITION, `${CONTAINER}/LogConfiguration/Options/awslogs-region`, null],
      [DEFINITION, `${CONTAINER}/LogConfiguration/Options/awslogs-stream-prefix`, null],
      [DEFINITION, `${CONTAINER}/LogConfiguration/Options/awslogs-group`, '/ecs/greeter'],
      ['network/greeter-logs', 'LogGroupName', '/ecs/greeter'],
    ],
  },
  {
    says: 'Variables are settings of the server, each set once',
    problems: each(function* ({ container }) {
      const names: string[] = container.Environment.map(({ Name }: any) => Name);
      for (const name of names) if (!(name in SETTINGS)) yield `${name} is no setting`;
      if (new Set(names).size < names.length) yield `twice in ${names}`;
    }),
    mistakes: [
      [DEFINITION, `${CONTAINER}/Environment/0/Name`, 'MAX_CONECTIONS'],
      [DEFINITION, `${CONTAINER}/Environment/0/Name`, 'MAX_CALLS'],
    ],
  },
  {
    says: 'A server’s limits fit into its task’s memory, next to Service Connect’s proxy',
    problems: each(function* ({ definition, container }) {
      const most = (variable: string) => amount(container, variable);
      // In bytes, as measured for the pods' limits, with 64 KiB in each call.
      const taken = most('MAX_CONNECTIONS') * 20_000 + most('MAX_CALLS') * 100_000 + most('NOTES_MEMORY');
      // AWS advises 64 MiB for the proxy.
      const there = (Number(definition.Memory) - 64) * 2 ** 20;
      if (!(taken <= there)) yield `may take ${taken} bytes of ${there}`;
    }),
    mistakes: [
      [DEFINITION, `${CONTAINER}/Environment/0/Value`, '50000'],
      [DEFINITION, `${CONTAINER}/Environment/1`, null],
      [DEFINITION, `${CONTAINER}/Environment/1/Value`, '5000'],
    ],
  },
];
