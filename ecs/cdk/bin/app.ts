import { App, Validations } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { suite } from '../lib/suite';

const app = new App();
suite(app);
Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
