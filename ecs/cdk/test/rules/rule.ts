import { deepStrictEqual } from 'node:assert';
import { Running, Suite } from '../suite';

/** A rule, and mistakes that it must detect: the value at a path in a document (null: removed). */
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

/** Yields a difference between a value and the expected one. */
export function* differs(name: string, found: unknown, due: unknown) {
  try {
    deepStrictEqual(found, due);
  } catch {
    yield `${name}: ${JSON.stringify(found)}, not ${JSON.stringify(due)}`;
  }
}
