import { Suite } from '../suite';
import { differs, Rule } from './rule';

const NETWORK = 'NetworkConfiguration/AwsvpcConfiguration';
const LATTICE = '169.254.171.0/24';

/** The connections that ingress rules of security groups allow: from, to and port; groups are named by their paths. */
function admitted(suite: Suite): string[] {
  const found: string[] = [];
  const admit = (stack: string, to: string, rule: any) => {
    const source = suite.behind(stack, rule.SourceSecurityGroupId);
    const from = source ? suite.path(source) : rule.CidrIp ?? JSON.stringify(rule);
    const ports = rule.FromPort === rule.ToPort ? rule.FromPort : `${rule.FromPort} to ${rule.ToPort}`;
    found.push(`${from} to ${to} ${rule.IpProtocol} ${ports}`);
  };
  for (const group of suite.all('EC2::SecurityGroup')) {
    for (const rule of group.Properties.SecurityGroupIngress ?? []) admit(group.stack, suite.path(group), rule);
  }
  for (const { stack, Properties } of suite.all('EC2::SecurityGroupIngress')) {
    admit(stack, suite.path(suite.behind(stack, Properties.GroupId)!), Properties);
  }
  return found.sort();
}

/** The connections that egress rules allow. */
function released(suite: Suite): string[] {
  const found: string[] = [];
  const release = (stack: string, from: string, rule: any) => {
    const target = suite.behind(stack, rule.DestinationSecurityGroupId);
    const to = target ? suite.path(target) : rule.CidrIp ?? JSON.stringify(rule);
    found.push(`${from} to ${to} ${rule.IpProtocol} ${rule.FromPort === rule.ToPort ? rule.FromPort : 'more'}`);
  };
  for (const group of suite.all('EC2::SecurityGroup')) {
    for (const rule of group.Properties.SecurityGroupEgress ?? []) release(group.stack, suite.path(group), rule);
  }
  for (const { stack, Properties } of suite.all('EC2::SecurityGroupEgress')) {
    release(stack, suite.path(suite.behind(stack, Properties.GroupId)!), Properties);
  }
  return found.sort();
}

/** The paths of a resource's security groups. */
const groups = (suite: Suite, stack: string, list: any[] = []) =>
  list.map((group) => suite.behind(stack, group)).map((group) => group && suite.path(group));

export const network: Rule[] = [
  {
    says: 'Only the ALB, Lattice, and for the Greeter the calling function may connect to a task',
    *problems(suite) {
      yield* differs('admitted', admitted(suite), [
        `0.0.0.0/0 to services/alb-group tcp 443`,
        `${LATTICE} to services/greeter/group tcp 9000`,
        `${LATTICE} to services/greeter/group tcp 9001`,
        `${LATTICE} to services/route-guide/group tcp 50051`,
        `${LATTICE} to services/route-guide/group tcp 50052`,
        'lambda/group to services/greeter/group tcp 9000',
        'services/alb-group to services/greeter/group tcp 9000',
        'services/alb-group to services/route-guide/group tcp 50051',
      ]);
    },
    mistakes: [
      ['services/greeter/group', 'SecurityGroupIngress/0/CidrIp', '0.0.0.0/0'],
      ['services/greeter/group', 'SecurityGroupIngress/0/CidrIp', '10.0.0.0/16'],
      ['services/greeter/group', 'SecurityGroupIngress/0/ToPort', 65535],
      ['services/greeter/group', 'SecurityGroupIngress/0/IpProtocol', '-1'],
      ['services/greeter/group', 'SecurityGroupIngress/1', null],
      ['services/greeter/group/from', 'FromPort', 0],
      ['services/greeter/group/from', 'SourceSecurityGroupId', { Ref: 'another' }],
      ['services/route-guide/group/from', 'FromPort', 9000],
      ['services/alb-group', 'SecurityGroupIngress/0/FromPort', 80],
      ['lambda/group/grpcsuite', 'GroupId', { 'Fn::GetAtt': ['groupC397F008', 'GroupId'] }],
      ['lambda/group/grpcsuite', 'FromPort', 50051],
    ],
  },
  {
    says: 'Callers of the tasks are allowed egress to them, and no group allows more',
    *problems(suite) {
      yield* differs('released', released(suite), [
        'lambda/group to services/greeter/group tcp 9000',
        'services/alb-group to services/greeter/group tcp 9000',
        'services/alb-group to services/route-guide/group tcp 50051',
        // Images and logs.
        'services/greeter/group to 0.0.0.0/0 tcp 443',
        'services/route-guide/group to 0.0.0.0/0 tcp 443',
      ]);
    },
    mistakes: [
      ['services/greeter/group', 'SecurityGroupEgress', null],
      ['services/greeter/group', 'SecurityGroupEgress/0/IpProtocol', '-1'],
      ['services/alb-group/to', 'FromPort', 9000],
      ['lambda/group/to', 'DestinationSecurityGroupId', { Ref: 'another' }],
      ['lambda/group', 'SecurityGroupEgress', [{ CidrIp: '0.0.0.0/0', IpProtocol: '-1' }]],
    ],
  },
  {
    says: 'Tasks, ALB and function are in their own groups',
    *problems(suite) {
      for (const { name, service: { stack, Properties } } of suite.servers) {
        const { SecurityGroups } = Properties.NetworkConfiguration?.AwsvpcConfiguration ?? {};
        yield* differs(name, groups(suite, stack, SecurityGroups), [`services/${name}/group`]);
      }
      const [balancer] = suite.all('ElasticLoadBalancingV2::LoadBalancer');
      yield* differs('ALB', groups(suite, balancer.stack, balancer.Properties.SecurityGroups), ['services/alb-group']);
      const { stack, Properties } = suite.at('lambda/caller');
      yield* differs('caller', groups(suite, stack, Properties.VpcConfig?.SecurityGroupIds), ['lambda/group']);
    },
    mistakes: [
      ['services/greeter/service', `${NETWORK}/SecurityGroups`, null],
      ['services/greeter/service', `${NETWORK}/SecurityGroups/0/Fn::GetAtt/0`, 'albgroup968CA607'],
      ['services/alb', 'SecurityGroups', null],
      ['lambda/caller', 'VpcConfig', null],
    ],
  },
];
