import { Suite } from '../suite';

/** What must be true of the suite, and mistakes that it must find: what stands where in which document (null: nothing). */
export interface Rule {
  says: string;
  problems: (suite: Suite) => Iterable<string>;
  mistakes: [document: string, path: string, value: unknown][];
}
