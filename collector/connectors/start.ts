import type { Runtime } from '../../runtime/context.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Component } from '../../runtime/lifecycle.ts';
import type { Ingest } from '../ingest.ts';
import { loadSources } from '../registry.ts';
import { auth0Logs } from './auth0_logs.ts';
import { oktaSystemLog } from './okta_system_log.ts';
import { pullMetrics, PullRunner, type PullConnector } from './pull_runner.ts';

/**
 * Starts fetching the logs of `collector.pull`; none where none is configured. Throws `config_invalid` where a credential
 * cannot be read.
 */
export async function startConnectors(runtime: Runtime, ingest: Ingest): Promise<Component[]> {
  const metrics = pullMetrics(runtime.metrics);
  const { okta_system_log, auth0_logs } = runtime.config.collector.pull;
  const connectors: PullConnector[] = [];
  if (okta_system_log !== undefined) connectors.push(oktaSystemLog(okta_system_log));
  if (auth0_logs !== undefined) connectors.push(auth0Logs(auth0_logs));
  if (connectors.length === 0) return [];
  const sources = await loadSources();
  const { clock, log, config } = runtime;
  return connectors.map((connector) => {
    const source = sources.get(connector.sourceId);
    if (source === undefined)
      throw new GrantscopeError('definition_invalid', `there is no source ${connector.sourceId}`);
    const { dataDir } = config;
    const runner = new PullRunner(connector, { ingest, source, dataDir, clock, log, metrics });
    runner.start();
    return runner;
  });
}
