import { deepStrictEqual } from 'node:assert';
import { Running, Suite } from '../suite';

/** What must be true, and mistakes that this must find: what stands where in which document (null: nothing). */
export interface Rule {
  says: string;
  problems: (suite: Suite) => Iterable<string>;
  mistakes: [document: string, path: string, value: unknown][];
}

/** The problems of each server, with its name. */
export const each = (problems: (server: Running, suite: Suite) => Iterable<string>) => function* (suite: Suite) {
  for (const server of suite.servers) {
    for (const problem of problems(server, suite)) yield `${server.name}: ${problem}`;
  }
};

/** What a value is, unless it is what is due. */
export function* differs(name: string, found: unknown, due: unknown) {
  try {
    deepStrictEqual(found, due);
  } catch {
    yield `${name}: ${JSON.stringify(found)}, not ${JSON.stringify(due)}`;
  }
}
