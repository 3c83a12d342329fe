import { generateAlertRules } from '../alerts/generate.ts';
import { generateDashboards } from '../dashboards/generate.ts';
import { generateReference } from './reference.ts';

/** Every file that follows from a definition, by its path in the repository. */
export async function generatedFiles(): Promise<Readonly<Record<string, string>>> {
  return {
    ...(await generateAlertRules()),
    ...(await generateDashboards()),
    ...(await generateReference()),
  };
}
