import { ok } from 'node:assert';
import { suite as group, test } from 'node:test';
import { alb } from './rules/alb';
import { entries } from './rules/entries';
import { network } from './rules/network';
import { services } from './rules/services';
import { tasks } from './rules/tasks';
import { Documents, Suite, synthesize } from './suite';

const right = synthesize();

/** The documents, with one mistake in them. */
function wrong([document, path, value]: [string, string, unknown]): Documents {
  const documents = structuredClone(right);
  const steps = path.split('/');
  const last = steps.pop()!;
  const resource: any = new Suite(documents).at(document);
  // Among its properties, unless it begins with a slash.
  const parent = steps[0] === '' ? resource : steps.reduce((found, step) => found[step], resource.Properties);
  if (value !== null) parent[last] = value;
  else if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else delete parent[last];
  return documents;
}

for (const { says, problems, mistakes } of [...alb, ...tasks, ...services, ...network, ...entries]) {
  group(says, () => {
    test('passes on the synthesized templates', () => {
      const found = [...problems(new Suite(right))];
      ok(found.length === 0, found.join('\n'));
    });
    for (const mistake of mistakes) {
      const [document, path, value] = mistake;
      test(`detects ${document} ${path}: ${JSON.stringify(value)}`, () => {
        ok([...problems(new Suite(wrong(mistake)))].length > 0);
      });
    }
    test('has a mistake to detect', () => ok(mistakes.length > 0));
  });
}
