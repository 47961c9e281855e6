import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Annotations, Aws, Stack } from 'aws-cdk-lib';
import { Code } from 'aws-cdk-lib/aws-lambda';

export const ROOT = join(__dirname, '../../../..');

/** A setting that differs by account: `-c name=value`. Without it, the stacks that need it cannot be deployed. */
export function setting(stack: Stack, name: string): string {
  const value = stack.node.tryGetContext(name);
  if (!value) Annotations.of(stack).addError(`say -c ${name}=…`);
  // The placeholder is never deployed.
  return value || Aws.STACK_NAME;
}

/** The id of cdk-nag's finding for a managed policy of AWS. */
export const managedPolicy = (name: string) =>
  `AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/${name}]`;

/** The zip of a function, built by cargo lambda. Tests do not need it: `-c lambda=placeholder`. */
export function code(stack: Stack, name: string): Code {
  const zip = join(ROOT, 'target/lambda', name, 'bootstrap.zip');
  if (existsSync(zip)) return Code.fromAsset(zip);
  if (stack.node.tryGetContext('lambda') !== 'placeholder') {
    const command = `cargo lambda build --release --arm64 --output-format zip --bin ${name}`;
    Annotations.of(stack).addError(`${zip} is not there: ${command}`);
  }
  return Code.fromAsset(join(ROOT, 'ecs/cdk/test/placeholder'));
}
